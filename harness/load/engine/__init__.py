"""Requests out, answers in, each stamped: one thread, one epoll loop, no greenlets.

    Loop         waits for sockets and for the next due time, and says how late it was
    Transport    one TCP or TLS connection
    HttpSender   prepared HTTP/1.1 over kept connections            \\  both are a Sender:
    GrpcSender   prepared HTTP/2 frames, unary calls and streams    /   one arm's wire
    Engine       a run's senders, its dispatch and its recorder, told what to do by `load.process`

The loop may run in any thread of any process; it needs neither locust nor gevent, and works beside both.
"""
