"""What otelbpf costs, measured on this machine: `scripts/bench` runs all of it, `scripts/bench NAME` one."""
