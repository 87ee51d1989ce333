"""Flower's mods around a node's handlers: what goes wrong in one of them comes back as one line.

A message holds facts and packed mail, and no ArrayRecord. A mod that counts, times or logs messages works as
with any app; one that clips arrays, or adds noise to them, refuses the first message. Where rounds go from
peer to peer, one message starts many of them, and no mod sees the mail.
"""

from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable

from comdml_flwr.core.user_code import describe_error, show_traceback
from comdml_flwr.flower.records import failure, reply_with


def reply_in_any_case(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Reply also where a mod further in raises, refuses the message, or returns no message.

    It is a mod itself, the outermost one. Flower would send a stack trace for the first, and wait for ever
    after the last.
    """
    try:
        reply = call_next(message, context)
    except Exception as error:
        show_traceback(error)
        return reply_with(message, failure(f"a mod of the ClientApp failed: {describe_error(error)}"))
    if not isinstance(reply, Message):
        kind = type(reply).__name__
        return reply_with(message, failure(f"a mod of the ClientApp returned {kind}, which is no Message"))
    if reply.has_error():
        return reply_with(message, failure(f"a mod of the ClientApp refuses messages: {reply.error.reason}"))
    return reply
