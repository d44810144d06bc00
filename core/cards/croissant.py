"""The Croissant form (mlcommons.org/croissant, format 1.1).

JSON-LD that names every file with its digest, and the record sets `samples` and `instances` with
one field per column of the index.

The context is the specification's own. The column `members` (where each member lies in its shard)
is left out. It is for readers of shards, and Croissant has no word for a list of structures in
Parquet.
"""

import json
from typing import Any

import pyarrow as pa

from panoforge.core.cards.facts import CardOptions, DatasetFacts
from panoforge.core.cards.huggingface import summary

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
# https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html, appendix "JSON-LD context"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "equivalentProperty": "cr:equivalentProperty",
    "samplingRate": "cr:samplingRate",
    "transform": "cr:transform",
}
CITE_AS = "SAP: Segment Any 4K Panorama. arXiv:2603.12759"
KEYS = {"samples": ["key"], "instances": ["key", "id"]}


def croissant(facts: DatasetFacts, options: CardOptions) -> str:
    """croissant.json as text."""
    card: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": options.name,
        "description": summary(facts),
        "license": options.spdx_license,
        "url": options.url,
        "creator": {"@type": "sc:Organization", "name": options.creator},
        "datePublished": options.published,
        "version": f"1.0.0+{facts.manifest.sample_index.sha256[:8]}",
        "citeAs": CITE_AS,
        "keywords": ["panorama", "equirectangular", "instance segmentation", "synthetic"],
        "distribution": [
            *(
                _file(
                    f"{name}-index", entry.name, entry.bytes, entry.sha256, "application/x-parquet"
                )
                for name, entry, _ in facts.indexes
            ),
            *(
                _file(
                    entry.name.rsplit("/", 1)[-1],
                    entry.name,
                    entry.bytes,
                    entry.sha256,
                    "application/x-tar",
                )
                for entry in facts.manifest.shards
            ),
        ],
        "recordSet": [_record_set(name, schema) for name, _, schema in facts.indexes],
    }
    return (
        json.dumps(
            {key: value for key, value in card.items() if value != ""}, indent=1, ensure_ascii=False
        )
        + "\n"
    )


def _file(id_: str, name: str, size: int, sha256: str, encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": id_,
        "name": id_,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": encoding,
        "sha256": sha256,
    }


def _record_set(name: str, schema: pa.Schema) -> dict[str, Any]:
    fields = [_field(name, column) for column in schema if column.name != "members"]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "key": [{"@id": f"{name}/{key}"} for key in KEYS[name]],
        "field": fields,
    }


def _field(table: str, column: pa.Field) -> dict[str, Any]:
    repeated = pa.types.is_list(column.type)
    kind = column.type.value_type if repeated else column.type
    data_type = (
        "sc:Text"
        if pa.types.is_string(kind)
        else "sc:Integer"
        if pa.types.is_integer(kind)
        else "sc:Float"
    )
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "dataType": data_type,
        "source": {"fileObject": {"@id": f"{table}-index"}, "extract": {"column": column.name}},
    }
    if column.name == "position_m":
        field |= {"isArray": True, "arrayShape": "3"}
    elif repeated:
        field["repeated"] = True
    if (table, column.name) == ("instances", "key"):
        field["references"] = {"field": {"@id": "samples/key"}}
    return field
