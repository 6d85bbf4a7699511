"""Published tables of crops: where they come from, and what is known to be wrong with them."""

from __future__ import annotations

from appliedpapers.core.sources import PublishedDataset, RemoteFile

_AGROSENSE = (
    "https://raw.githubusercontent.com/Vishal-sys-code/AgroSense/"
    "4cf1a4bc5eadb13e2b4715d3b696ceb1d1858307/Datasets"
)

CROP_RECOMMENDATION = PublishedDataset(
    id="crop-recommendation",
    title="Crop_recommendation.csv: 2,200 rows of 22 crops, SYNTHETIC whatever its name says",
    files=(
        RemoteFile(
            path="crop/Crop_recommendation.csv",
            url=f"{_AGROSENSE}/Crop_recommendation.csv",
            sha256="808e1d84a544647f1ab2fdae04f434b1842692d6be09eee18a5c2d43eb78d77c",
            size=147_833,
        ),
    ),
    licence="stated as Apache-2.0 where it comes from, unverified",
    citation="Pandey et al., AgroSense, arXiv 2509.01344, whose public code holds this table",
)
ETHIOPIA = PublishedDataset(
    id="ethiopia",
    title="Soil, climate and crop of 3,867 Ethiopian fields at 16 locations, 12 crops",
    files=(
        RemoteFile(
            path="crop/ethiopia_soil_weather_crop.csv",
            url=f"{_AGROSENSE}/Crop%20Recommendation%20using%20Soil%20Properties%20and%20Weather%20"
            "Prediction.csv",
            sha256="cd66e21145b1fd7797f4178817084e3ed3512020cf9a60c36abb50579072a4a2",
            size=857_795,
        ),
    ),
    licence="unverified",
    citation="the public code of AgroSense, arXiv 2509.01344, which holds this table",
)

NUTRIENTS = ("ph", "potassium", "phosphorus", "nitrogen", "zn", "s")
"""What the Ethiopian soil tests hold."""
