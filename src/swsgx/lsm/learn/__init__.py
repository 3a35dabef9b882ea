"""What an audit log says to a policy: candidate rules for what was refused, and why a record says what it says.

``learner.py`` makes candidates of all kinds of files from a log, in the way of audit2allow, and tries them with the
policy that they are for; ``reply.py`` asks a policy what a record was about. Nothing that a log says is believed to be
harmless: its strings come from programs that somebody wants to confine.
"""
