"""Published data on total nitrogen: where they come from, and what is known of them."""

from __future__ import annotations

from appliedpapers.core.sources import PublishedDataset, RemoteFile

_UMS = "https://raw.githubusercontent.com/abirhossen786/ums/936a725e0d87199e9c05ce5aa33c215606bf1720"
_LINES = "Traning%20data%20for%20621.4%20nm%20and%20668.1%20nm"

MAIN = "ums_tn/dataset_multispectral_features.csv"
OTHER_LINES = {"621.4 nm": "ums_tn/d621.csv", "668.1 nm": "ums_tn/d668.csv"}

UMS_TN = PublishedDataset(
    id="ums-tn",
    title="Bands of a drone and total nitrogen by LIBS: 54 rows, of which 18 are samples",
    files=(
        RemoteFile(
            path=MAIN,
            url=f"{_UMS}/dataset_multispectral_features.csv",
            sha256="8bbd6db95dade2dfd690cee665cd8b6154874697c47355702f5af64200bdae40",
            size=2_327,
        ),
        RemoteFile(
            path=OTHER_LINES["621.4 nm"],
            url=f"{_UMS}/{_LINES}/dataset_multispectral_features_621nm.csv",
            sha256="a7e9adf5a4b4a09d5f5b6291026d5ff462d4040459eba15b060fad5aaa2339d0",
            size=2_331,
        ),
        RemoteFile(
            path=OTHER_LINES["668.1 nm"],
            url=f"{_UMS}/{_LINES}/dataset_multispectral_features_668nm.csv",
            sha256="7b5c785fb94f062830f873c2a6684484fb1ae70405e237f1c82820a7ac19b78b",
            size=2_317,
        ),
    ),
    licence="MIT",
    citation="Hossen et al., Total nitrogen estimation in agricultural soils via aerial "
    "multispectral imaging "
    "and LIBS, arXiv 2107.02355",
)
NIRSOIL = PublishedDataset(
    id="nirsoil",
    title="Near-infrared spectra of 825 Walloon soils, 645 of them with total nitrogen",
    files=(
        RemoteFile(
            path="nirsoil/NIRsoil.RData",
            url="https://raw.githubusercontent.com/cran/prospectr/"
            "d04fa0dd4c48f5ccbb428171eeb7748864c8c27e/data/NIRsoil.RData",
            sha256="fbd4ecf28d1e6d1ac046ad537d887e794102cb16c826ef150798623cc3012479",
        ),
    ),
    licence="MIT",
    citation="Fernandez Pierna and Dardenne, Soil parameter quantification by NIRS as a chemometric "
    "challenge at "
    "Chimiometrie 2006, as the R package prospectr ships it",
    prepared=RemoteFile(
        path="nirsoil/nirsoil.parquet",
        url=None,
        sha256="f4a6b2cbf93f5e097f10738703e7b78ece5381b5e84012fd880a1f1d3d1bd37e",
    ),
)
