/* The ancestor's greeting, more or less: khttpd answered from inside the kernel. */
static const char greeting[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 12\r\n"
    "Connection: Keep-Alive\r\n"
    "\r\n"
    "Hello World!";
