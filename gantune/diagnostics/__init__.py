"""What a run leaves to look at: result files, weight trajectories, memory, training health and plots."""

from gantune.registry import lazy

__getattr__, __all__ = lazy(
    __name__,
    {
        "files": ["JsonLines", "local_path", "locked", "replacing", "write_atomically", "write_json"],
        "health": ["HealthMonitor", "kl_estimate", "rollout_health"],
        "health_plot": ["plot_health"],
        "memory": ["MemoryMonitor", "MemoryRecord", "MemoryReport", "measure_memory", "record_memory_snapshot"],
        "plots": ["plot_history", "plot_memory_timeline", "plot_weight_trajectories"],
        "weights": ["Trajectory", "WeightTrajectory", "load_trajectory"],
    },
)
