"""What is encrypted on its socket: the handshake, the plain text its library gave, and which socket carries it."""
