"""The kinds of mail that peers send in rounds besides that of a program's phases: all of protocol.py."""

from comdml_flwr.carriers.direct import protocol
from comdml_flwr.core.mail import Mail

_DECLARED = (one for one in vars(protocol).values() if isinstance(one, type) and issubclass(one, Mail))
OF_ROUNDS = frozenset(mail.kind for mail in _DECLARED if mail is not Mail)
