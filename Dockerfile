# otelbpf and what it runs on, nothing else: no pip, no headers, no compiler but the one that libbpfcc links.
#
#   docker build -t otelbpf .
#   docker run: see "One container" in README.md, which says why each right is needed

FROM debian:trixie-slim AS build
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc libc6-dev python3-dev python3-pip python3-venv
WORKDIR /source
COPY . .
# pip stays out of the environment it fills. Byte code is made here, because the image is read-only where it runs, and
# what stands in the way of every request is compiled (see hatch_build.py).
ENV OTELBPF_COMPILE=1
RUN python3 -m venv --without-pip /opt/otelbpf \
    && pip --python /opt/otelbpf/bin/python install --no-cache-dir --compile .

FROM debian:trixie-slim
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends libbpf1 python3 python3-bpfcc \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/*
COPY --from=build /opt/otelbpf /opt/otelbpf
ENV PATH=/opt/otelbpf/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["otelbpf", "health"]
ENTRYPOINT ["otelbpf"]
CMD ["run"]
