"""What a run leaves to look at: result files, weight trajectories, memory, training health and plots."""

from gantune.diagnostics.files import JsonLines, locked, replacing, write_atomically, write_json
from gantune.diagnostics.health import HealthMonitor, kl_estimate, rollout_health
from gantune.diagnostics.health_plot import plot_health
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
    "HealthMonitor",
    "JsonLines",
    "MemoryMonitor",
    "MemoryRecord",
    "MemoryReport",
    "Trajectory",
    "WeightTrajectory",
    "kl_estimate",
    "load_trajectory",
    "locked",
    "measure_memory",
    "plot_comparison",
    "plot_health",
    "plot_history",
    "plot_memory_timeline",
    "plot_weight_trajectories",
    "record_memory_snapshot",
    "replacing",
    "rollout_health",
    "write_atomically",
    "write_json",
]
