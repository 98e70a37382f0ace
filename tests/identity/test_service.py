"""What a user would call a service, from what a process shows of itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import OTELResourceDetector

from otelbpf.events.types import Identity
from otelbpf.identity.environment import environment_attributes
from otelbpf.identity.service import MAX_CHARS, packet_service_name, service_name

PYTHON = "/usr/bin/python3.11"
NODE = "/usr/bin/node"
JAVA = "/usr/lib/jvm/java-17-openjdk-amd64/bin/java"


def name_of(executable: str, *command: str, **more: str) -> str:
    """service.name of a process."""
    return service_name(Identity(pid=1, executable=executable, command=command, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        # Python: scripts and modules
        ("python3 app.py", "app"),
        ("python3 /srv/shop/server.py --port 80", "server"),
        ("python3 -u -O /srv/shop/worker.py", "worker"),
        ("python3 -W ignore -X dev run.py", "run"),
        ("python3 -Wignore -Xdev run.py", "run"),
        ("python3 --check-hash-based-pycs never run.py", "run"),
        ("python3 -m http.server 8000", "http.server"),
        ("python3 -um shop.worker", "shop.worker"),
        ("python3 -mshop", "shop"),
        ("python3 /srv/shop/__main__.py", "shop"),
        ("python3 /srv/shop/manage.py runserver 0:80", "shop"),
        ("python3 manage.py runserver", "manage"),
        ("python3 /app/manage.py runserver", "manage"),
        ("python3 -c print(1)", "python3.11"),
        ("python3 -", "python3.11"),
        ("python3", "python3.11"),
        ("python3 -i", "python3.11"),
        ("python3 /usr/bin/pgadmin4", "pgadmin4"),
        ("python3 shop.pyz", "shop"),
        # Python: application servers
        ("python3 /usr/bin/gunicorn app:app", "app"),
        ("python3 /usr/bin/gunicorn -b 0.0.0.0:80 -w 4 shop.wsgi:application", "shop"),
        ("python3 /usr/bin/gunicorn shop.wsgi -k gevent", "shop"),
        ("python3 /usr/bin/gunicorn -k gevent --preload shop.wsgi", "shop"),
        ("python3 /usr/bin/gunicorn --name storefront app:app", "storefront"),
        ("python3 /usr/bin/gunicorn -c gunicorn.conf.py", "gunicorn"),
        ("python3 /usr/bin/gunicorn src.shop.main:create_app()", "shop"),
        ("python3 -m gunicorn company.shop.wsgi:app", "company.shop"),
        ("python3 /usr/bin/uvicorn main:app --host 0.0.0.0 --port 80", "main"),
        ("python3 /usr/bin/uvicorn --host localhost --port 80 shop.main:app", "shop"),
        ("python3 -m uvicorn shop.asgi:app --reload", "shop"),
        ("python3 /usr/bin/hypercorn --bind localhost:8000 billing:app", "billing"),
        ("python3 /usr/bin/daphne -p 80 shop.asgi:application", "shop"),
        ("python3 /usr/bin/granian --interface asgi api.main:app", "api"),
        ("python3 /usr/bin/waitress-serve --port=80 shop:app", "shop"),
        ("python3 /usr/bin/flask --app shop run", "shop"),
        ("python3 -m flask --app=shop:create_app run", "shop"),
        ("python3 /usr/bin/flask run", "flask"),
        ("python3 /usr/bin/celery -A shop.celery worker", "shop"),
        ("python3 /usr/bin/celery --app proj worker -n one@%h", "proj"),
        ("python3 /usr/bin/fastapi run app/orders.py", "orders"),
        ("python3 /usr/bin/fastapi run", "fastapi"),
    ],
)
def test_python(command: str, name: str) -> None:
    """Scripts, modules, applications."""
    assert name_of(PYTHON, *command.split()) == name


@pytest.mark.parametrize(
    ("executable", "command", "name"),
    [
        (NODE, "node server.js", "server"),
        (NODE, "node /srv/shop/index.js", "shop"),
        (NODE, "node /srv/shop/dist/index.js", "shop"),
        (NODE, "node dist/index.js", "index"),
        (NODE, "node dist/main.js", "main"),
        (NODE, "node --inspect --max-old-space-size=4096 -r dotenv/config orders.mjs", "orders"),
        (NODE, "node --require ./tracing.js ./src/orders.cjs", "orders"),
        (NODE, "node -e console.log(1)", "node"),
        (NODE, "node", "node"),
        (NODE, "node /srv/shop/node_modules/.bin/ts-node src/orders.ts", "orders"),
        (NODE, "node /srv/shop/node_modules/.bin/tsx watch src/orders.ts", "orders"),
        (NODE, "node /srv/shop/node_modules/.bin/json-server db.json", "json-server"),
        ("/usr/local/bin/bun", "bun run orders.ts", "orders"),
        ("/usr/local/bin/deno", "deno run --allow-net orders.ts", "orders"),
        (JAVA, "java -jar shop.jar", "shop"),
        (JAVA, "java -Xmx1g -jar /app/shop-service-1.2.3-SNAPSHOT.jar --server.port=80", "shop-service"),
        (JAVA, "java -jar app_v2.jar", "app"),
        (JAVA, "java -jar jetty-runner-9.4.54.v20240208.jar shop.war", "jetty-runner"),
        (JAVA, "java -cp a.jar:b.jar com.example.shop.OrderService", "OrderService"),
        (JAVA, "java -classpath a.jar -Dx=y com.example.shop.Main --port 80", "shop"),
        (JAVA, "java @options com.example.billing.BillingApplication", "BillingApplication"),
        (JAVA, "java -p mods -m com.example.shop/com.example.shop.Main", "shop"),
        (JAVA, "java --module-path mods --module com.example.shop", "shop"),
        (JAVA, "java -cp x org.apache.catalina.startup.Bootstrap start", "catalina"),
        (JAVA, "java -Dspring.application.name=orders -jar app.jar", "orders"),
        (JAVA, "java -Dotel.service.name=orders -jar app.jar", "orders"),
        (JAVA, "java Server.java", "Server"),
        (JAVA, "java -version", "java"),
        ("/usr/bin/ruby3.1", "ruby -I lib bin/orders.rb", "orders"),
        ("/usr/bin/ruby3.1", "ruby -e puts", "ruby3.1"),
        ("/usr/bin/perl", "perl -T /usr/sbin/munin-node", "munin-node"),
        ("/usr/bin/perl", "perl orders.pl", "orders"),
        ("/usr/bin/php8.2", "php -S 0.0.0.0:80 -t /srv/shop/public", "shop"),
        ("/usr/bin/php8.2", "php -d memory_limit=1G /srv/shop/artisan queue:work", "artisan"),
        ("/usr/sbin/php-fpm8.2", "php-fpm: pool www", "php-fpm"),
        ("/usr/share/dotnet/dotnet", "dotnet /app/Shop.Api.dll --urls http://*:80", "Shop.Api"),
        ("/usr/share/dotnet/dotnet", "dotnet exec Shop.Api.dll", "Shop.Api"),
        ("/usr/share/dotnet/dotnet", "dotnet build", "dotnet"),
        ("/usr/bin/uwsgi", "uwsgi --http :80 --module shop.wsgi:application", "shop"),
        ("/usr/bin/uwsgi", "uwsgi --http :80 --wsgi-file /srv/shop/orders.py", "orders"),
        ("/usr/bin/bash", "bash -x /srv/serve.sh", "serve"),
        ("/usr/bin/bash", "bash -c exec", "bash"),
        ("/usr/sbin/nginx", "nginx -g daemon off;", "nginx"),
        ("/usr/bin/busybox", "httpd -f", "httpd"),
        ("/srv/orders", "/srv/orders --port 80", "orders"),
        ("/usr/lib/postgresql/15/bin/postgres", "postgres -D /var/lib", "postgres"),
        ("", "/opt/hidden/orders -x", "orders"),
    ],
)
def test_other_programs(executable: str, command: str, name: str) -> None:
    """Other interpreters, and programs that need none."""
    assert name_of(executable, *command.split()) == name


@pytest.mark.parametrize(
    ("executable", "title", "name"),
    [
        (PYTHON, "gunicorn: master [shop.wsgi:application]", "shop"),
        (PYTHON, "gunicorn: worker [storefront]", "storefront"),
        (PYTHON, "celeryd: worker@host:MainProcess", "celeryd"),
        (NODE, "next-server (v14.2.3)", "next-server"),
        (NODE, "npm start", "npm"),
        (NODE, "node /srv/shop/orders.js ", "orders"),
        ("/usr/bin/ruby3.1", "puma 6.4.0 (tcp://0.0.0.0:3000) [shop]", "shop"),
        ("/usr/bin/ruby3.1", "puma: cluster worker 0: 123 [shop]", "shop"),
        ("/usr/bin/ruby3.1", "sidekiq 7.2 shop [0 of 5 busy]", "sidekiq"),
        ("/usr/sbin/nginx", "nginx: worker process", "nginx"),
        (PYTHON, " ", "python3.11"),
        (PYTHON, "untitled", "python3.11"),
    ],
)
def test_titles(executable: str, title: str, name: str) -> None:
    """A program that gave itself a title is one argument."""
    assert name_of(executable, title) == name


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("nginx", "nginx"),
        ("postgresql@15-main", "postgresql@15-main"),
        ("docker", "orders"),
        ("containerd", "orders"),
        ("cron", "orders"),
        ("ssh", "orders"),
        ("supervisor", "orders"),
        ("pm2-root", "orders"),
        ("snap.docker.dockerd", "orders"),
        ("systemd-nspawn@web", "orders"),
        ("sshd-checker", "sshd-checker"),
        ("dockerd-proxy", "dockerd-proxy"),
    ],
)
def test_units(unit: str, name: str) -> None:
    """A unit names what it runs, unless it only starts what others bring."""
    assert name_of("/srv/orders", systemd_unit=unit) == name


def test_the_order_of_the_rule() -> None:
    """Each source of a name, taken away one after the other."""
    identity = {
        "environment": {"OTEL_SERVICE_NAME": "one", "OTEL_RESOURCE_ATTRIBUTES": "service.name=two"},
        "workload": {"container.name": "three"},
        "systemd_unit": "four",
        "command": ("python3", "five.py"),
        "executable": "/usr/bin/python3.11",
        "comm": "seven",
        "container_id": "0123456789abcdef" * 4,
    }
    names = [service_name(Identity(pid=1, **identity))]  # type: ignore[arg-type]
    identity["environment"] = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=two"}
    names.append(service_name(Identity(pid=1, **identity)))  # type: ignore[arg-type]
    for field in ("environment", "workload", "systemd_unit", "command", "executable", "comm"):
        del identity[field]
        names.append(service_name(Identity(pid=1, **identity)))  # type: ignore[arg-type]

    assert names == ["one", "two", "three", "four", "five", "python3.11", "seven", "unknown_service"]


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("", "orders"),
        ("  ", "unknown_service"),
        ("two\nlines\x1b[0m", "two lines [0m"),
        ("x" * 1000, "x" * MAX_CHARS),
        ("größe", "größe"),
    ],
)
def test_names_are_fit_to_be_shown(told: str, name: str) -> None:
    """No control characters, a bounded length, never empty."""
    assert name_of("/srv/orders", environment={"OTEL_SERVICE_NAME": told}) == name  # type: ignore[arg-type]


@given(
    st.builds(
        Identity,
        pid=st.just(1),
        comm=st.text(max_size=16),
        executable=st.sampled_from(
            ["", "/", PYTHON, NODE, JAVA, "/usr/bin/php", "/bin/busybox", "/usr/bin/uwsgi", "/x/y"]
        ),
        command=st.lists(
            st.sampled_from(
                [
                    "python3",
                    "-m",
                    "-c",
                    "-um",
                    "-W",
                    "-jar",
                    "-cp",
                    "-",
                    "--",
                    "--app",
                    "-A",
                    "-n",
                    "gunicorn",
                    "uvicorn",
                    "app:app",
                    "-S",
                    "-t",
                    "x/",
                    "/",
                    ".",
                    "..",
                    "a.b:",
                    "=",
                ]
            )
            | st.text(" -x/.:=[(", max_size=10),
            max_size=6,
        ).map(tuple),
        systemd_unit=st.text(max_size=8),
        environment=st.dictionaries(
            st.sampled_from(["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]), st.text(max_size=20)
        ),
    )
)
def test_any_process_has_a_name(identity: Identity) -> None:
    """No command line raises, and no name is empty."""
    name = service_name(identity)

    assert name
    assert name == name.strip()
    assert name.isprintable()


def test_servers_known_by_packets_alone() -> None:
    """Address and port, as in a URL."""
    assert packet_service_name("10.0.0.1", 80) == "10.0.0.1:80"
    assert packet_service_name("2001:db8::1", 80) == "[2001:db8::1]:80"


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
    | st.lists(st.sampled_from(["a=b", "service.name=x", " c = d%20e ", "=", "x", "f==", ""])).map(",".join),
    st.sampled_from([None, "", "shop"]),
)
def test_the_environment_is_read_as_the_sdk_reads_it(attributes: str, name: str | None) -> None:
    """Pair by pair what OpenTelemetry's own detector makes of it; only keys without a name are left out here."""
    environment = {"OTEL_RESOURCE_ATTRIBUTES": attributes} | ({} if name is None else {"OTEL_SERVICE_NAME": name})
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OTEL_SERVICE_NAME", raising=False)
        for key, value in environment.items():
            patch.setenv(key, value)
        expected = dict(OTELResourceDetector().detect().attributes)
    expected.pop("", None)

    assert environment_attributes(environment) == expected


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        ({"container.name": "shop-web-1"}, "shop-web-1"),
        ({"container.name": "shop-web-1", "container.label.com.docker.compose.service": "web"}, "web"),
        ({"k8s.container.name": "web", "k8s.pod.name": "shop-0"}, "shop-0"),
        ({"k8s.pod.name": "shop-7d-x", "k8s.replicaset.name": "shop-7d", "k8s.deployment.name": "shop"}, "shop"),
        ({"k8s.job.name": "nightly-294", "k8s.cronjob.name": "nightly", "k8s.pod.name": "nightly-294-x"}, "nightly"),
        ({"service.name": "reports", "k8s.deployment.name": "shop"}, "reports"),
        ({"container.image.name": "nginx"}, "app"),
    ],
)
def test_a_workload_names_what_runs_in_it(workload: dict[str, str], name: str) -> None:
    """Before a unit or a program does; what the process says itself wins."""
    identity = Identity(pid=1, executable="/srv/app", workload=workload)
    assert service_name(identity) == name
    told = Identity(pid=1, workload=workload, environment={"OTEL_SERVICE_NAME": "own"})
    assert service_name(told) == "own"
