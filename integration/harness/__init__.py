"""What the integration tests share: programs, plans, the collector, and the truth that spans are held against."""
