"""Virtual inking (VIN, arXiv 2511.22131): the surgical cut surface on H&E slides."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="virtual-inking",
    title="VIN",
    summary="Draw the surgical margin on H&E slides and measure distances to it, for an expert to confirm.",
    field="pathology",
    data="whole-slide images: SVS and what else OpenSlide reads",
    papers=(
        Paper(
            title="VIN: virtual inking of surgical margins on H&E slides",
            year=2025,
            arxiv="2511.22131",
        ),
    ),
    tasks=(
        TaskSpec(
            name="margin",
            config="appliedpapers.plugins.virtual_inking.config:InkingConfig",
            datasets="appliedpapers.plugins.virtual_inking.data:DATASETS",
            model="appliedpapers.plugins.virtual_inking.model:VirtualInker",
            evaluation="appliedpapers.plugins.virtual_inking.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "timm", "openslide", "h5py", "PIL", "sklearn", "scipy"),
    extra="applied-papers[virtual-inking]",
    advice=(
        "Simulated cuts teach what cautery looks like in principle: teach it your own slides, too.",
        "Bring annotations by block or patient: slides of one block on both sides make any figure too good.",
        "Flat images, and slides that do not state it, need --mpp; nothing is taken for 40x.",
        "--preset cascade lets colour and texture decide the easy tiles, at half of the encoder's calls.",
        "A line is a proposal for an expert to confirm: no diagnosis, and no substitute for ink.",
    ),
)
