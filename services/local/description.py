"""A running stack in plain values, as `limelight status` shows it."""

from dataclasses import asdict
from typing import Any

from limelight.proxies import proxy_for
from services.local import processes
from services.local.health import PUBLIC_SERVICE, check
from services.local.models import StackEngine
from services.local.state import Phase, StackState, numbered

# The phase that is shown of a stack that was ready, when something of it does not serve now.
UNHEALTHY = "unhealthy"


def describe(state: StackState) -> dict[str, Any]:
    """The stack's state and addresses, with the health of each service asked now."""
    gateway = state.addresses.get("gateway", "")
    gateways = [_gateway(state, number) for number in range(1, state.config.gateways + 1)]
    whole = check(gateway, PUBLIC_SERVICE) if gateway else "starting"
    models = "serving" if whole == "serving" else _serve_health(state)
    services = [
        *gateways,
        *(
            _service(state, name, "serve", state.addresses.get("serve", ""), models)
            for name in state.config.services
        ),
    ]
    healthy = all(service["health"] == "serving" for service in services)
    return {
        "name": state.config.name,
        "phase": UNHEALTHY if state.phase is Phase.READY and not healthy else state.phase.value,
        "stage": state.stage,
        "profile": state.config.profile,
        "address": gateway,
        "metrics": state.addresses.get("metrics", ""),
        "gateway_metrics": {
            gateway["name"]: state.addresses.get(numbered("metrics", number), "")
            for number, gateway in enumerate(gateways, 1)
        },
        "ray_metrics": state.addresses.get("ray_metrics", ""),
        "uptime_s": round(processes.uptime_s(state.supervisor), 1),
        "ready_s": state.ready_s,
        "restarts": {
            name: state.restarts.get(name, 0)
            for name in ("serve", *(gateway["name"] for gateway in gateways))
        },
        "fault": None if state.fault is None else asdict(state.fault),
        "services": services,
        "versions": state.versions,
    }


def describe_remote(address: str) -> dict[str, Any]:
    """A deployment elsewhere, as far as `grpc.health.v1` tells: its server and its public API.

    `proxy` is what the way there leads through, without a password, or None.
    """
    services = [
        {"name": "gateway", "health": check(address), "address": address},
        {"name": PUBLIC_SERVICE, "health": check(address, PUBLIC_SERVICE), "address": address},
    ]
    proxy = proxy_for(address)
    return {"address": address, "proxy": proxy and str(proxy), "services": services}


def _gateway(state: StackState, number: int) -> dict[str, Any]:
    """One of the gateways; its health is asked where it alone listens."""
    name = numbered("gateway", number)
    shared = state.addresses.get("gateway", "")
    direct = state.addresses.get(numbered("direct", number), "")
    if state.config.gateways == 1:
        direct = direct or shared
    return _service(state, name, name, shared, check(direct) if direct else "starting")


def _service(
    state: StackState, name: str, process: str, address: str, health: str
) -> dict[str, Any]:
    ref = state.processes.get(process)
    arguments = state.config.services.get(name, {})
    served = name in state.config.services
    model = arguments.get("model") or ("shipped tiny checkpoint" if served else "")
    if arguments.get("engine") == StackEngine.FAKE:
        model = "fake engine"
    return {
        "name": name,
        "health": health,
        "address": address,
        "model": model,
        "pid": ref.pid if ref and ref.alive else None,
    }


def _serve_health(state: StackState) -> str:
    if state.phase is Phase.STARTING:
        return "starting"
    ref = state.processes.get("serve")
    return "not serving" if ref is not None and ref.alive else "dead"
