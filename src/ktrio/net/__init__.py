"""Bytes and sockets: addresses, listeners, connections and their deadlines; knows no protocol."""
