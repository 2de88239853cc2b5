"""The call a handler is answering, as a context variable set by the server's interceptor."""

from contextvars import ContextVar

from services.caller import Priority
from services.rpc.metadata import CallContext

_current: ContextVar[CallContext] = ContextVar("limelight_call")


def set_current_call(call: CallContext) -> None:
    """Make `call` the current one, for this task and those it starts."""
    _current.set(call)


def current_call() -> CallContext:
    """The call being answered; LookupError outside one."""
    return _current.get()


def current_priority() -> Priority:
    """Whose turn the work being done has; interactive outside a call."""
    call = _current.get(None)
    return Priority.INTERACTIVE if call is None else call.priority


def log_fields() -> dict[str, str]:
    """What a log line says of the call being answered: nothing outside one."""
    call = _current.get(None)
    if call is None:
        return {}
    fields = {"request_id": call.request_id, "tenant": call.caller.tenant}
    if call.caller.key_id:
        fields["key_id"] = call.caller.key_id
    return fields
