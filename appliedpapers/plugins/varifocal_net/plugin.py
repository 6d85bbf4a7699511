"""Varifocal-Net (arXiv 1810.05943): chromosome types and polarity, and karyotypes from them."""

from appliedpapers.core.plugin import Paper, PluginSpec, TaskSpec

PLUGIN = PluginSpec(
    id="varifocal-net",
    title="Varifocal-Net",
    summary="Give segmented chromosomes their type and polarity, and cells a karyotype to check.",
    field="cytogenetics",
    data="images of single chromosomes: PNG, TIFF, NPZ, COCO",
    papers=(
        Paper(
            title="Varifocal-Net: A Chromosome Classification Approach Using Deep Convolutional Networks",
            year=2019,
            arxiv="1810.05943",
        ),
    ),
    tasks=(
        TaskSpec(
            name="karyotype",
            config="appliedpapers.plugins.varifocal_net.config:KaryotypeConfig",
            datasets="appliedpapers.plugins.varifocal_net.data:DATASETS",
            model="appliedpapers.plugins.varifocal_net.model:ChromosomeClassifier",
            evaluation="appliedpapers.plugins.varifocal_net.evaluation:EVALUATION",
        ),
    ),
    requires=("torch", "lightgbm", "PIL", "sklearn"),
    extra="applied-papers[varifocal-net]",
    advice=(
        "Bring whole cells: a folder a cell, or a column 'case'. Without cells each chromosome stands alone.",
        "Bring the specimen, too: cells of one patient on both sides of a split make any figure too good.",
        "On a GPU, --preset full trains the paper's size; on a CPU the default learns in minutes.",
        "To go on with your own corrections, fill fixed_type in corrections.csv and give it to apps run",
        "--data corrections.csv --preset fine-tune --init-from varifocal-net@champion.",
    ),
)
