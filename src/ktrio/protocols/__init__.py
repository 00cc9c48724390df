"""What to say on one connection: echo and HTTP/1.1, over a `ktrio.net.connection.Connection`."""
