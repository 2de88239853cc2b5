"""Two releases in two namespaces do not see each other."""

import pytest

from tests.chart.conftest import CHART
from tests.cluster.conftest import MODELS, RELEASE, Namespace, installed, profile, until

pytestmark = pytest.mark.timeout(1200)


def test_two_releases_side_by_side(cluster: None) -> None:
    """Both answer; what is changed in one leaves the other alone, and so does its end."""
    with installed("limelight-one", *profile()) as one:
        with installed("limelight-two", *profile()) as two:
            for release in (one, two):
                output = release.helm("test", RELEASE, "--logs", "--timeout", "15m")
                assert output.count("right  ") == 2, output
            # Each gateway asks its own namespace's models.
            for release in (one, two):
                (pod,) = release.pods("gateway")
                addresses = [
                    variable["value"]
                    for variable in pod["spec"]["containers"][0]["env"]
                    if variable["name"].endswith("R_ADDRESS")
                ]
                assert addresses
                assert all(f".{release.name}.svc" in address for address in addresses)
            before = one.names("gateway", *MODELS)
            with one.load(callers=1, pause_s=0.5) as load:
                two.helm(
                    "upgrade",
                    RELEASE,
                    str(CHART),
                    *profile("segmenter.settings.max_batch_images=4"),
                )
                until("the change is made", lambda: "max_batch_images" in serve_config(two))
                two.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")
                assert load.more(20)["failed"] == 0
            assert one.names("gateway", *MODELS) == before
        assert "max_batch_images" not in serve_config(one)


def serve_config(release: Namespace) -> str:
    config: str = release.rayservice("segmenter")["spec"]["serveConfigV2"]
    return config
