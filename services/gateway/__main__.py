"""`python -m services.gateway`: run the gateway until SIGTERM, then drain."""

import argparse
import asyncio
import json
import signal
import sys

from services.gateway.app import start
from services.gateway.settings import Settings
from services.logs import configure
from services.rpc.tracing import TRACING


def main() -> None:
    _explain()
    settings = Settings()
    configure(settings.log_level)
    TRACING.configure(settings.otlp_endpoint, "limelight-gateway", settings.trace_ratio)
    try:
        asyncio.run(_serve(settings))
    except OSError as exc:
        sys.exit(f"limelight gateway: {exc}")
    finally:
        TRACING.close()


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = await start(settings)
    # One line on stdout for whoever started this: with port 0, only now is the address known.
    line = {
        "event": "listening",
        "address": gateway.address,
        "direct": gateway.direct_address,
        "metrics": gateway.metrics_address,
    }
    print(json.dumps(line), flush=True)
    await stop.wait()
    await gateway.drain()


def _explain() -> None:
    lines = ["Settings, from the environment:"]
    prefix = Settings.model_config["env_prefix"]
    for name, info in Settings.model_fields.items():
        lines.append(f"  {prefix}{name.upper()} = {info.default!r}: {info.description}")
    parser = argparse.ArgumentParser(
        prog="python -m services.gateway",
        description="Limelight's public gRPC server.",
        epilog="\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()


if __name__ == "__main__":
    main()
