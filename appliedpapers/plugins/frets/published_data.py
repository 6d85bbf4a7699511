"""Published series with addresses and checksums."""

from __future__ import annotations

from appliedpapers.core.sources import PublishedDataset, RemoteFile

_RAW = "https://raw.githubusercontent.com"
_ETT_CITATION = "Zhou et al., Informer, AAAI 2021, arXiv 2012.07436"

PUBLISHED = (
    PublishedDataset(
        id="etth1",
        title="Electricity transformer, hourly: 6 loads and the oil temperature, 2016 to 2018",
        files=(
            RemoteFile(
                "ETTh1.csv",
                f"{_RAW}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
                "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
                2_589_657,
            ),
        ),
        licence="CC BY-ND 4.0",
        citation=_ETT_CITATION,
    ),
    PublishedDataset(
        id="exchange",
        title="Exchange rates of eight countries, business-daily, 1990 to 2016",
        files=(
            RemoteFile(
                "exchange_rate.txt.gz",
                f"{_RAW}/laiguokun/multivariate-time-series-data/7f402f185cc2435b5e66aed13a3b560ed142e023"
                "/exchange_rate/exchange_rate.txt.gz",
                "6a4fbb561dcdee43f071a83badbeec9223a335552278348656738b556f1c2e9d",
                177_142,
            ),
        ),
        licence="none stated",
        citation="Lai et al., Modeling long- and short-term temporal patterns, SIGIR 2018, arXiv 1703.07015",
    ),
    PublishedDataset(
        id="covid",
        title="COVID-19 counts of 55 US counties, daily, February to December 2020",
        files=(
            RemoteFile(
                "covid.csv",
                f"{_RAW}/aikunyi/FreTS/6de28ab19f83955087e2690cdfbb29b065ab0b9c/dataset/covid.csv",
                "2c89d879dd73a603230e9db989b3fda41aae6222dc366daa816335f47ea470e4",
                169_665,
            ),
        ),
        licence="Apache-2.0 (repository)",
        citation="Yi et al., Frequency-domain MLPs, NeurIPS 2023, arXiv 2311.06184",
    ),
    PublishedDataset(
        id="illness",
        title="US influenza-like illness, weekly, 2002 to 2020",
        files=(
            RemoteFile(
                "national_illness.csv",
                f"{_RAW}/naymatkhaana/llm4cast/cada698e9727e5077e2361e8729a0752fd4d420f"
                "/dataset/illness/national_illness.csv",
                "b390a69589dd8e0a41ac816ff90843f1b0007d13c90885bed62efe0278484fb2",
                66_650,
            ),
        ),
        licence="US CDC public figures; repository MIT",
        citation="US Centers for Disease Control and Prevention, FluView",
    ),
)
