"""What a run leaves to look at: result files, weight trajectories, memory and plots."""

from gantune.diagnostics.files import JsonLines, replacing, write_atomically, write_json
from gantune.diagnostics.memory import (
    MemoryMonitor,
    MemoryRecord,
    MemoryReport,
    measure_memory,
    record_memory_snapshot,
)
from gantune.diagnostics.plots import (
    plot_comparison,
    plot_history,
    plot_memory_timeline,
    plot_weight_trajectories,
)
from gantune.diagnostics.weights import Trajectory, WeightTrajectory, load_trajectory

__all__ = [
    "JsonLines",
    "MemoryMonitor",
    "MemoryRecord",
    "MemoryReport",
    "Trajectory",
    "WeightTrajectory",
    "load_trajectory",
    "measure_memory",
    "plot_comparison",
    "plot_history",
    "plot_memory_timeline",
    "plot_weight_trajectories",
    "record_memory_snapshot",
    "replacing",
    "write_atomically",
    "write_json",
]
