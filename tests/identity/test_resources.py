"""Resources carry the names of the semantic conventions, and what a process says of itself wins."""

from __future__ import annotations

import uuid

import opentelemetry.semconv.attributes.telemetry_attributes as telemetry
import pytest
from opentelemetry.sdk.resources import OTELResourceDetector
from opentelemetry.semconv._incubating.attributes import (
    container_attributes,
    host_attributes,
    os_attributes,
    process_attributes,
    service_attributes,
)
from opentelemetry.semconv.attributes.service_attributes import SERVICE_NAME

from otelbpf import __version__
from otelbpf.events.types import Host, Identity
from otelbpf.identity.resources import packet_attributes, resource_attributes

HOST = Host(name="box", id="0123", arch="amd64", os_version="12")
PROCESS = Identity(
    pid=4242,
    started_ns=7_000_000_000,
    comm="gunicorn",
    executable="/usr/bin/python3.11",
    command=("python3", "/usr/bin/gunicorn", "shop.wsgi:app", "secret"),
    parent_pid=17,
    owner="www-data",
    container_id="f" * 64,
    runtime_name="cpython",
)


def test_everything_that_is_known() -> None:
    """Every attribute, by the name the conventions give it; the command line is not among them."""
    attributes = resource_attributes(PROCESS, HOST)

    instance = uuid.uuid5(uuid.UUID("4d63009a-8d0f-11ee-aad7-4c796ed8e320"), "0123/4242/7000000000")
    assert attributes == (
        (SERVICE_NAME, "shop"),
        (service_attributes.SERVICE_INSTANCE_ID, str(instance)),
        (process_attributes.PROCESS_PID, 4242),
        (process_attributes.PROCESS_PARENT_PID, 17),
        (process_attributes.PROCESS_EXECUTABLE_NAME, "python3.11"),
        (process_attributes.PROCESS_EXECUTABLE_PATH, "/usr/bin/python3.11"),
        (process_attributes.PROCESS_OWNER, "www-data"),
        (process_attributes.PROCESS_RUNTIME_NAME, "cpython"),
        (container_attributes.CONTAINER_ID, "f" * 64),
        (host_attributes.HOST_NAME, "box"),
        (host_attributes.HOST_ID, "0123"),
        (host_attributes.HOST_ARCH, host_attributes.HostArchValues.AMD64.value),
        (os_attributes.OS_TYPE, os_attributes.OsTypeValues.LINUX.value),
        (os_attributes.OS_VERSION, "12"),
        (telemetry.TELEMETRY_DISTRO_NAME, "otelbpf"),
        (telemetry.TELEMETRY_DISTRO_VERSION, __version__),
    )


def test_what_is_not_known_is_left_out() -> None:
    """Nothing is empty, nothing is zero."""
    attributes = dict(resource_attributes(Identity(pid=0), Host()))

    del attributes["service.instance.id"]
    assert attributes == {
        "service.name": "unknown_service",
        "os.type": "linux",
        "telemetry.distro.name": "otelbpf",
        "telemetry.distro.version": __version__,
    }


def test_the_process_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as OpenTelemetry's own detector reads it; over the settings, and both over what was observed."""
    environment = {
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=prod%2Ceu,host.name=own,team=a,service.instance.id=me",
        "OTEL_SERVICE_NAME": "orders",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    identity = Identity(pid=1, executable="/x", environment=environment)
    attributes = dict(resource_attributes(identity, HOST, [("team", "b"), ("host.id", "set"), ("region", "north")]))

    sdk = OTELResourceDetector().detect().attributes
    assert attributes.items() >= sdk.items()
    assert attributes["deployment.environment.name"] == "prod,eu"
    assert (attributes["host.id"], attributes["region"]) == ("set", "north")
    assert len(attributes) == len(resource_attributes(identity, HOST, [("team", "b"), ("region", "north")]))


def test_the_settings_cannot_name_services() -> None:
    """All of them would get the same name."""
    extra = [("service.name", "otelbpf"), ("service.instance.id", "1"), ("service.namespace", "shop")]
    attributes = dict(resource_attributes(PROCESS, HOST, extra))

    assert attributes["service.name"] == "shop"
    assert len(str(attributes["service.instance.id"])) == 36
    assert attributes["service.namespace"] == "shop"


def test_numbers_stay_numbers() -> None:
    """An attribute has one type, always."""
    environment = {"OTEL_RESOURCE_ATTRIBUTES": "process.pid=1,process.parent_pid=x"}
    identity = Identity(pid=4242, parent_pid=17, environment=environment)
    attributes = dict(resource_attributes(identity, HOST, [("process.pid", "5")]))

    assert (attributes["process.pid"], attributes["process.parent_pid"]) == (4242, 17)


@pytest.mark.parametrize(
    ("identity", "host"),
    [
        (Identity(pid=4243, started_ns=7_000_000_000), HOST),
        (Identity(pid=4242, started_ns=7_000_000_001), HOST),
        (Identity(pid=4242, started_ns=7_000_000_000), Host(name="box", id="4567")),
        (Identity(pid=4242, started_ns=7_000_000_000), Host(name="other")),
    ],
)
def test_instances_differ(identity: Identity, host: Host) -> None:
    """Another process, the next one of its number, one of another host; but not the same after an exec."""
    own = dict(resource_attributes(PROCESS, HOST))["service.instance.id"]

    assert dict(resource_attributes(identity, host))["service.instance.id"] != own
    assert dict(resource_attributes(Identity(pid=4242, started_ns=7_000_000_000), HOST))["service.instance.id"] == own


def test_a_server_known_by_its_packets() -> None:
    """Address and port; nothing of the host that reads the file."""
    attributes = packet_attributes("2001:db8::1", 80, Host(packets=True, os_type=""), [("region", "north")])

    assert [name for name, _ in attributes] == [
        "service.name",
        "service.instance.id",
        "telemetry.distro.name",
        "telemetry.distro.version",
        "region",
    ]
    assert attributes[0] == ("service.name", "[2001:db8::1]:80")


def test_what_is_known_of_a_workload() -> None:
    """Under its own names; image tags are a list; numbers that are known stay."""
    workload = {
        "container.image.tags": "1.2",
        "k8s.pod.name": "shop-0",
        "service.name": "reports",
        "process.pid": "7",
        "team": "checkout",
    }
    found = dict(resource_attributes(Identity(pid=42, workload=workload), Host(), [("team", "platform")]))
    assert found["container.image.tags"] == ("1.2",)
    assert found["k8s.pod.name"] == "shop-0"
    assert found["service.name"] == "reports"
    assert found["process.pid"] == 42
    assert found["team"] == "platform"
