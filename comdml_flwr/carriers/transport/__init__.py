"""Mail between the members of a run, directly from peer to peer, over gRPC with mutual TLS.

It moves envelopes and knows nothing of rounds and phases. Theory of operation:

* Every member listens, and dials a peer when it has mail for it. A stream goes one way; an envelope is a few
  frames on it (frames.py), and has a number in sequence by its sender.
* The receiver answers each envelope once it lies in its inbox. Until then the sender keeps it, and sends it
  again on a new stream where the old one broke; the receiver says at the beginning of a stream which number
  it had last, so nothing comes twice and nothing is lost while both processes live.
* Nothing grows without bound. The inbox holds a bounded number of bytes of each sender, and what was received
  of it and is still in use is bounded too (kept_mail.py); while one is full, the sender's stream is not read,
  gRPC's windows fill, and the sender's queue, bounded too, makes `send` wait. Kinds of mail that nobody here
  reads are refused, and connections on which nothing goes on are closed.
* Nobody waits for ever. What a caller waits for has a deadline; a peer that cannot be reached for
  `patience_s`, or that refuses us, is gone, and whoever wants something of it is told so.
* A peer is believed to be who its certificate says (credentials.py); what it sends is checked again, counted
  where it is refused, and logged once for each reason and peer (refusals.py).
"""
