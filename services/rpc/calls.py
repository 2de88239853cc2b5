"""The call a handler is answering, as a context variable set by the server's interceptor."""

from contextvars import ContextVar

from services.rpc.metadata import CallContext

_current: ContextVar[CallContext] = ContextVar("limelight_call")


def set_current_call(call: CallContext) -> None:
    """Make `call` the current one, for this task and those it starts."""
    _current.set(call)


def current_call() -> CallContext:
    """The call being answered; LookupError outside one."""
    return _current.get()


def current_request_id() -> str | None:
    """The request id for a log line, or None outside a call."""
    call = _current.get(None)
    return None if call is None else call.request_id
