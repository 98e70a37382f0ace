"""The -D settings that tell probes/include/kernel.h where the running kernel keeps what it reads."""

from __future__ import annotations

import time

from otelbpf.errors import KernelError
from otelbpf.sources.btf import Btf

_NEEDED = (
    ("sock_common", "skc_daddr"),
    ("sock_common", "skc_rcv_saddr"),
    ("sock_common", "skc_dport"),
    ("sock_common", "skc_num"),
    ("sock_common", "skc_family"),
    ("sock_common", "skc_state"),
    ("sock", "sk_protocol"),
    ("sock", "sk_err"),
    ("sock_common", "skc_flags"),
    ("sock", "sk_ack_backlog"),
    ("sock", "sk_max_ack_backlog"),
    ("sock", "sk_drops"),
    ("sock", "sk_socket"),
    ("sock", "sk_receive_queue"),
    ("sk_buff_head", "prev"),
    ("sk_buff", "len"),
    ("sk_buff", "data_len"),
    ("sk_buff", "data"),
    ("socket", "file"),
    ("inet_sock", "inet_sport"),
    ("inet_connection_sock", "icsk_ulp_ops"),
    ("tcp_ulp_ops", "name"),
    ("tcp_sock", "write_seq"),
    ("tcp_sock", "copied_seq"),
    ("tcp_sock", "rcv_nxt"),
    ("tcp_sock", "bytes_acked"),
    ("tcp_sock", "bytes_received"),
    ("tcp_sock", "total_retrans"),
    ("tcp_sock", "srtt_us"),
    ("tcp_sock", "chrono_stat"),
    ("task_struct", "group_leader"),
    ("task_struct", "start_boottime"),
    ("task_struct", "comm"),
    ("task_struct", "flags"),
    ("task_struct", "real_parent"),
    ("task_struct", "tgid"),
    ("task_struct", "cgroups"),
    ("css_set", "dfl_cgrp"),
    ("cgroup", "kn"),
    ("kernfs_node", "id"),
)
# Absent where the kernel was built without IPv6 or network namespaces.
_OPTIONAL = (
    ("sock_common", "skc_v6_daddr"),
    ("sock_common", "skc_v6_rcv_saddr"),
    ("sock_common", "skc_net"),
    ("net", "ns.inum"),
)
_ENUMERATORS = (("sock_flags", "SOCK_DONE"), ("sock_flags", "SOCK_DEAD"))
_TICKING = 6
"""CLOCK_MONOTONIC_COARSE, whose resolution is the kernel's tick."""
_SK_FLAGS_DEFAULT = {"SOCK_DEAD": 0, "SOCK_DONE": 1}


def defines(btf: Btf, *, kprobes: bool) -> list[str]:
    """Compiler arguments for the running kernel. Raises KernelError for one whose structures the probes do not know."""
    settings = {"TICK_US": round(time.clock_getres(_TICKING) * 1_000_000)}
    for structure, member in _NEEDED:
        settings[_name(structure, member)] = _need(btf, structure, member)
    for structure, member in _OPTIONAL:
        if (offset := btf.offset(structure, member)) is not None:
            settings[_name(structure, member)] = offset
    # `__parent` since kernel commit 633488947ef6 ("kernfs: Use RCU to access kernfs_node::parent."), 6.15.
    settings["OFFSET_KERNFS_NODE_PARENT"] = _need(btf, "kernfs_node", "__parent", "parent")
    for enumeration, name in _ENUMERATORS:
        value = btf.enumerator(enumeration, name)
        settings[name] = _SK_FLAGS_DEFAULT[name] if value is None else value
    if kprobes:
        settings.update(_iterator(btf))
    return [f"-D{name}={value}" for name, value in settings.items()]


def _name(structure: str, member: str) -> str:
    return f"OFFSET_{structure}_{member}".replace(".", "_").upper()


def _need(btf: Btf, structure: str, *members: str) -> int:
    """The first of several names of one member: kernels rename."""
    for member in members:
        if (offset := btf.offset(structure, member)) is not None:
            return offset
    raise KernelError(
        f"the kernel's type information has no {structure}.{members[0]}",
        "the probes do not know this kernel's structures; report its version",
    )


def _iterator(btf: Btf) -> dict[str, int]:
    """struct iov_iter as it was named over time, and where tcp_recvmsg has its flags."""
    settings = {
        "OFFSET_MSGHDR_MSG_ITER": _need(btf, "msghdr", "msg_iter"),
        # `iter_type` since kernel commit 8cd54c1c8480 ("iov_iter: separate direction from flavour"), 5.14.
        "OFFSET_IOV_ITER_TYPE": _need(btf, "iov_iter", "iter_type", "type"),
        "OFFSET_IOV_ITER_IOV_OFFSET": _need(btf, "iov_iter", "iov_offset"),
        "OFFSET_IOV_ITER_COUNT": _need(btf, "iov_iter", "count"),
        # `__iov` since kernel commit de4f5fed3f23 ("iov_iter: add iter_iovec() helper"), 6.4.
        "OFFSET_IOV_ITER_IOV": _need(btf, "iov_iter", "__iov", "iov"),
        "OFFSET_IOV_ITER_NR_SEGS": _need(btf, "iov_iter", "nr_segs"),
    }
    iovec = btf.enumerator("iter_type", "ITER_IOVEC")
    if iovec is None:
        raise KernelError("the kernel's type information has no enum iter_type", "report the kernel's version")
    settings["ITER_IOVEC"] = iovec
    # Since kernel commit fcb14cb1bdac ("new iov_iter flavour - ITER_UBUF"), 6.0.
    ubuf = btf.enumerator("iter_type", "ITER_UBUF")
    if ubuf is not None:
        settings["ITER_UBUF"] = ubuf
        settings["OFFSET_IOV_ITER_UBUF"] = _need(btf, "iov_iter", "ubuf")
    bvec = btf.enumerator("iter_type", "ITER_BVEC")
    if bvec is not None:
        settings["ITER_BVEC"] = bvec
    if btf.offset("iov_iter", "iter_type") is None:
        settings["ITER_TYPE_HAS_DIRECTION"] = 1
    parameters = btf.parameters("tcp_recvmsg")
    if parameters is None or "flags" not in parameters:
        raise KernelError("the kernel's type information has no function tcp_recvmsg", "try --tier tracepoint")
    # The argument `nonblock` went with kernel commit ec095263a965 ("net: remove noblock parameter"), 5.19.
    settings["RECEIVE_FLAGS_ARGUMENT"] = parameters.index("flags") + 1
    return settings
