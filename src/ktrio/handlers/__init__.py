"""What to answer: handlers turn a `Request` into a `Response` and never see a socket."""
