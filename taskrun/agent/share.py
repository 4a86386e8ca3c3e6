"""Which cores and which GPUs each slot of an engine gets. Pure, but for `cores_of_node`, which reads how the node is built.

The driver says in the `share` of its config what is to be shared:

    cores, cores_per_task   the cores that the job has on this node, and of them a task's; 0: slots are not bound to cores
    gpus                    "" not at all · "auto" if there is one for each slot · "all" also if slots must be set aside for it
    gpus_each               GPUs a slot, 0 for as many as there are
    variables               -E: names of lists, of which slot k gets element k
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Mapping, Tuple

#: How programs are told which GPUs are theirs. All of one node's name the same GPUs in the same order.
GPU_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
    "SLURM_STEP_GPUS",
)

_TOPOLOGY = "/sys/devices/system/cpu/cpu%d/topology/%s"


class Share(object):
    """What one slot gets: CPUs to run on (none: all that the agent may use), and variables."""

    def __init__(self) -> None:
        self.cpus: "List[int]" = []
        self.env: "Dict[str, str]" = {}


class Shares(object):
    """`slots`: one Share each, perhaps fewer than were asked for. `outside`: variables of PERENGINE commands, which have no slot.

    `warnings` are for the person, `notes` for the log.
    """

    def __init__(self, slots: int) -> None:
        self.slots: "List[Share]" = [Share() for _ in range(slots)]
        self.outside: "Dict[str, str]" = {}
        self.warnings: "List[str]" = []
        self.notes: "List[str]" = []


def divide(config: dict, slots: int, environ: "Mapping[str, str]", order: "List[Tuple[int, int]]") -> Shares:
    """Shares of `slots` slots. `order`: (core, CPU) of all CPUs that the agent may use, as `cores_of_node` gives it."""
    shares = Shares(slots)
    variables = config.get("variables", ())
    for name in variables:
        _elements(shares, name, environ)
    gpus = config.get("gpus", "")
    if gpus:
        _gpus(
            shares,
            gpus == "all",
            config.get("gpus_each", 0),
            {name: environ[name] for name in GPU_VARIABLES if name in environ and name not in variables},
        )
    _cores(shares, config.get("cores", 0), config.get("cores_per_task", 0), order)
    return shares


def _elements(shares: Shares, name: str, environ: "Mapping[str, str]") -> None:
    """`-E name`."""
    found = items(environ.get(name, ""))
    if not found:
        shares.warnings.append("-E %s: there is no such variable here, so nothing of it is divided" % name)
        return
    if _limit(shares, len(found), "-E %s has %d" % (name, len(found))) < len(found):
        shares.warnings.append("-E %s has %d elements for %d slots: the rest is not used" % (name, len(found), len(shares.slots)))
    for share, item in zip(shares.slots, found):
        share.env[name] = item
    shares.outside[name] = found[0]


def _gpus(shares: Shares, strict: bool, each: int, lists: "Dict[str, str]") -> None:
    """Blocks of GPUs, one after the other, as even as they can be unless each slot has a right to so many."""
    parts = {name: items(text) for name, text in lists.items()}
    count = max([len(found) for found in parts.values()] or [0])
    if not count:
        if strict:
            shares.warnings.append("-g: no variable names the GPUs of this node (CUDA_VISIBLE_DEVICES and the like), so none are divided")
        return
    if strict:
        _limit(shares, count // max(1, each), "-g: there %s" % ("is 1 GPU" if count == 1 else "are %d GPUs" % count))
    slots = len(shares.slots)
    if count < slots * max(1, each):
        return  # all slots see all of them, as SLURM has it
    for number, share in enumerate(shares.slots):
        first, last = (number * each, (number + 1) * each) if each else (number * count // slots, (number + 1) * count // slots)
        for name, found in parts.items():
            if len(found) == count:
                share.env[name] = ",".join(found[first:last])


def _limit(shares: Shares, most: int, why: str) -> int:
    """No more slots than there is something for; how many there are now."""
    asked = len(shares.slots)
    if most < asked:
        del shares.slots[max(1, most) :]
        shares.warnings.append(
            "%s for %d slots: %d slot%s used" % (why, asked, len(shares.slots), " is" if len(shares.slots) == 1 else "s are")
        )
    return len(shares.slots)


def _cores(shares: Shares, granted: int, each: int, order: "List[Tuple[int, int]]") -> None:
    width = cpus_each(len(order), len({core for core, _ in order}), granted, len(shares.slots), each)
    for number, share in enumerate(shares.slots):
        share.cpus = [cpu for _, cpu in order[number * width : (number + 1) * width]]
    if granted and not width:
        shares.notes.append(
            "slots are not bound to cores (slots: %d, cores of the job: %d, CPUs that it may use: %d)"
            % (len(shares.slots), granted, len(order))
        )


def cpus_each(cpus: int, cores: int, granted: int, slots: int, each: int) -> int:
    """CPUs of each slot, 0 if slots are not bound.

    `cpus` on so many `cores` (hyperthreads) are the agent's, `granted` is what SLURM counts as the job's, `each` of them for a task.
    An agent that may use more than was granted is not alone on its node, and nobody knows which CPUs are the others'.
    """
    if each < 1 or not granted or not slots or min(cpus, cores) > granted:
        return 0
    return min(max(1, cpus * each // granted), cpus // slots)


def items(text: str) -> "List[str]":
    """The elements of a list in the environment; `0-3` is not one, but what a program may be given."""
    return [item.strip() for item in text.split(",") if item.strip()]


def cores_of_node() -> "List[Tuple[int, int]]":
    """(core, CPU) of the CPUs that this process may use: those of a socket, then those of a core, beside each other."""
    cpus = os.sched_getaffinity(0)
    found = sorted((_topology(cpu, "physical_package_id"), _topology(cpu, "core_id", cpu), cpu) for cpu in cpus)
    numbers: "Dict[Tuple[int, int], int]" = {}
    return [(numbers.setdefault((socket, core), len(numbers)), cpu) for socket, core, cpu in found]


def _topology(cpu: int, name: str, unknown: int = 0) -> int:
    try:
        with open(_TOPOLOGY % (cpu, name)) as file:
            return int(file.read())
    except (OSError, ValueError):
        return unknown
