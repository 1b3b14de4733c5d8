"""Write the tables of configuration.md from the Configs, each time the documents are built.

The page holds a line `[verbs]` and a line `[other settings]`; both are replaced while Sphinx reads it.
"""

from itertools import groupby

from pydantic_settings import CliPositionalArg

from napari_tokenunify.chain import Chain
from napari_tokenunify.cli import _HowToRun
from napari_tokenunify.data.augment import AugmentConfig
from napari_tokenunify.jobs import LaunchConfig
from napari_tokenunify.network import NetworkConfig
from napari_tokenunify.pipeline import GROUPS, STAGES
from napari_tokenunify.train.pretraining.recipes import Phase, Recipe

PAGE = "configuration"
POSITIONAL = CliPositionalArg[str].__metadata__[0]  # the mark of an argument without a flag
OTHERS = {
    "A file for `run`": Chain,
    "A recipe of pre-training": Recipe,
    "A phase of a recipe": Phase,
    "A network": NetworkConfig,
    "Augmentation": AugmentConfig,
}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "object": "names and values"}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
COUNTS = {2: "two", 3: "three"}


def verbs():
    """Return all verbs with their flags as Markdown."""
    parts = []
    for group, names in groupby(STAGES, key=lambda name: name.split()[0] if name.split()[0] in GROUPS else name):
        if group in GROUPS:
            parts.append(f"## {group}\n\n{GROUPS[group]}")
        parts += [verb(name, "###" if group in GROUPS else "##") for name in names]
    parts.append("## Verbs that run as jobs\n\nThey take these flags too; see [jobs](jobs.md).\n\n" + flags(_HowToRun))
    parts.append(flags(LaunchConfig, "launch."))
    return "\n\n".join(parts)


def verb(name, heading):
    """Return one verb as Markdown."""
    stage = STAGES[name]
    as_job = " It runs as a [job](#verbs-that-run-as-jobs)." if stage.job else ""
    return f"{heading} {name}\n\n{stage.config.__doc__}{as_job}\n\n{flags(stage.config)}"


def other_settings():
    """Return the Configs that stand in files or are given in Python as Markdown."""
    return "\n\n".join(
        f"### {title}\n\n`{kind.__module__}.{kind.__name__}`. {summary(kind)}\n\n{fields(kind)}"
        for title, kind in OTHERS.items()
    )


def summary(kind):
    return kind.__doc__.strip().partition("\n\n")[0].replace("\n", " ")


def flags(kind, prefix=""):
    """Return a table of the flags that are made from a Config; those that hold flags of their own are left out."""
    needed_first = sorted(kind.model_fields.items(), key=lambda item: not item[1].is_required())
    return table("flag", ((flag(name, info, prefix), name, info) for name, info in needed_first), kind)


def fields(kind):
    """Return a table of the fields of a Config, by their names in YAML and Python."""
    return table("setting", ((f"`{name}`", name, info) for name, info in kind.model_fields.items()), kind)


def flag(name, info, prefix):
    word = name.replace("_", "-")
    if POSITIONAL in info.metadata:
        return f"`{word.upper()}`"
    return f"`--no-{prefix}{word}`" if info.default is True else f"`--{prefix}{word}`"


def table(first, rows, kind):
    schema = kind.model_json_schema()
    lines = [f"| {first} | values | default | what it does |", "|---|---|---|---|"]
    for shown, name, info in rows:
        if info.annotation is LaunchConfig:
            continue
        values = described(schema["properties"][name], schema.get("$defs", {}))
        words = (info.description or "").replace("\n", " ").replace("|", "\\|")
        lines.append(f"| {shown} | {values} | {default(info)} | {words} |")
    return "\n".join(lines)


def default(info):
    if info.is_required():
        return "needed"
    value = info.get_default(call_default_factory=True)
    if value is None or value == () or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        between = " " if isinstance(value[0], tuple) else ","
        return "`" + between.join(",".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value) + "`"
    return "" if hasattr(value, "model_fields") else f"`{value}`"


def described(schema, definitions, many=""):
    """Say in words which values a JSON schema allows; `many` is an s where it is said of several."""
    if "$ref" in schema:
        return "settings" if "properties" in definitions[schema["$ref"].rpartition("/")[2]] else "text"
    if "anyOf" in schema:
        return " or ".join(described(one, definitions) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "boolean":
        return "yes or no"
    if kind == "array":
        items = schema.get("prefixItems") or [schema["items"]]
        count = COUNTS[len(items)] if "prefixItems" in schema else "several"
        if items[0].get("type") == "array":
            count += ", each"
        return f"{count} {described(items[0], definitions, 's')}"
    word = WORDS.get(kind, "text")
    limits = [f"{text} {schema[key]:g}" for key, text in LIMITS.items() if abs(schema.get(key, 2**63)) < 2**63]
    return ", ".join([word if kind == "object" else word + many, *limits])


def fill_in(app, page, source):
    """Put the tables where the page has their names."""
    if page == PAGE:
        source[0] = source[0].replace("[verbs]", verbs()).replace("[other settings]", other_settings())


def setup(app):
    """Let Sphinx call this extension; the page is always made anew."""
    app.connect("source-read", fill_in)
    app.connect("env-get-outdated", lambda *_: [PAGE])
    return {"parallel_read_safe": True}
