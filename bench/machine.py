"""Processor time and memory of processes, and the load of the machine, from /proc. Linux only."""

import os
import resource
import time
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CORES = len(os.sched_getaffinity(0))
# The largest load of the machine, as a share of its processors, at which a measurement starts.
MAX_IDLE_LOAD = 0.10
# How long to wait for a load that is no larger, in seconds.
IDLE_TIMEOUT_SECONDS = 60


class BenchError(Exception):
    """Ends the bench without a result; its text says why."""


def _stat(pid):
    """The fields of /proc/PID/stat after the name, which may contain spaces; None if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_tree(root):
    """The ids of the process and its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(entry)):
            children.setdefault(int(stat[1]), []).append(int(entry))
    found, left = [], [root]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def cpu_seconds(root):
    """Processor time of a process and its descendants so far, including those that have ended."""
    # Fields 14 to 17: utime, stime, and both for the children that were waited for.
    stats = [stat for pid in process_tree(root) if (stat := _stat(pid))]
    return sum(int(word) for stat in stats for word in stat[11:15]) / TICKS_A_SECOND


def own_seconds():
    """Processor time of this program and of its children that have ended: the load generators."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def memory_bytes(root, field="VmRSS"):
    """Resident memory of a process and its descendants: now (VmRSS), or the maximum so far (VmHWM)."""
    total = 0
    for pid in process_tree(root):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
    return total


def busy_seconds():
    """Processor time that the machine has spent so far, including time stolen by the hypervisor."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND


def wait_until_idle(log):
    """Waits until the machine is idle; after the timeout it logs a warning and returns."""
    deadline = time.monotonic() + IDLE_TIMEOUT_SECONDS
    while True:
        before = busy_seconds()
        time.sleep(1)
        busy = (busy_seconds() - before) / CORES
        if busy <= MAX_IDLE_LOAD:
            return
        if time.monotonic() > deadline:
            log(f"the machine is busy with other work ({busy:.0%}): do not trust these figures")
            return


def describe():
    """The machine in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    model = models[0] if models else os.uname().machine
    gib = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / 2**30
    return f"{model}, {CORES} cores, {gib:.0f} GiB, Linux {os.uname().release.partition('-')[0]}"
