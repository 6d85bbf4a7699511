"""imu-attitude: roll and pitch from a 6-axis inertial sensor (arXiv 2302.06037, arXiv 2203.17024)."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="imu-attitude",
    title="Inertial attitude",
    summary="Say where up is, sample by sample, from an accelerometer and a gyroscope alone.",
    field="inertial sensing",
    data="recordings of a sensor: CSV, Parquet, npz, mat; streams",
    papers=(
        Paper(
            title=(
                "End-to-End Deep Learning Framework for Real-Time Inertial Attitude Estimation using 6DoF IMU"
            ),
            year=2023,
            arxiv="2302.06037",
            doi="10.1016/j.measurement.2023.113105",
        ),
        Paper(
            title=(
                "VQF: Highly Accurate IMU Orientation Estimation with Bias Estimation "
                "and Magnetic Disturbance Rejection"
            ),
            year=2022,
            arxiv="2203.17024",
        ),
    ),
    tasks=(
        TaskSpec(
            name="attitude",
            config="appliedpapers.plugins.imu_attitude.config:AttitudeConfig",
            datasets="appliedpapers.plugins.imu_attitude.data:DATASETS",
            model="appliedpapers.plugins.imu_attitude.model:AttitudeEstimator",
            evaluation="appliedpapers.plugins.imu_attitude.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightning_fabric", "numba"),
    extra="applied-papers[imu-attitude]",
    advice=(
        "filter (--set model.kind=filter): no training, microseconds a sample, live; start here.",
        "residual (default): the filter and a small network that corrects it where training trials show",
        "that it helps; to beat the filter it needs a reference orientation on a few trials like yours.",
        "paper-a, paper-b: the published networks, for comparison; GPU hours, and late by half a window.",
        "Without a magnetometer heading drifts whatever the estimator: only roll and pitch are answered.",
    ),
)
