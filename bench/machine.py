"""What the machine says of its processes: processor time, memory, and whether anybody else is busy. Linux only."""

import os
import resource
import time
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CORES = len(os.sched_getaffinity(0))
# Share of the machine that may be busy with other things when a measurement begins.
CALM = 0.10
# How long calm is waited for, in seconds.
PATIENCE_SECONDS = 60


class BenchError(Exception):
    """Why there is no result that could be trusted."""


def _stat(pid):
    """The words of /proc/PID/stat after the name, which may hold blanks; None when there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def process_tree(root):
    """The process and all that descend from it."""
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
    """Processor time of a process and its descendants so far, also of those that have ended."""
    # utime, stime, and the same of children that were waited for, are fields 14 to 17.
    stats = [stat for pid in process_tree(root) if (stat := _stat(pid))]
    return sum(int(word) for stat in stats for word in stat[11:15]) / TICKS_A_SECOND


def own_seconds():
    """Processor time of this program and of those that it ran to their end, the load generators."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def memory_bytes(root, field="VmRSS"):
    """Resident memory of a process and its descendants: now, or the highest ever (VmHWM)."""
    total = 0
    for pid in process_tree(root):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
    return total


def busy_seconds():
    """Processor time that the machine has spent on anything, the theft of other machines included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_A_SECOND


def wait_for_calm(say):
    """Waits until the machine has little else to do; gives up after a while and says so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        before = busy_seconds()
        time.sleep(1)
        busy = (busy_seconds() - before) / CORES
        if busy <= CALM:
            return
        if time.monotonic() > deadline:
            say(f"the machine is busy with other things ({busy:.0%}): do not trust these figures")
            return


def describe():
    """The machine in a few words."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        os.uname().machine,
    )
    gib = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES / 2**30
    return f"{model}, {CORES} cores, {gib:.0f} GiB, Linux {os.uname().release.partition('-')[0]}"
