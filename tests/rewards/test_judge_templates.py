"""Questions as data: what is refused, what is filled in, and how verdicts are read."""

import dataclasses
from pathlib import Path

import pytest

from rsalign import ConfigError, Message
from rsalign.rewards.judge_templates import Template, shipped_names


def test_texts_are_filled_in_once():
    """A response that looks like a template stays as it is."""
    template = Template(system="On {prompt}", user='{{"a": {response}}}', pattern="(.)")
    assert template.messages(prompt="{response}", response="{0.__class__} {{") == (
        Message("system", "On {response}"),
        Message("user", '{"a": {0.__class__} {{}'),
    )
    assert template.placeholders == {"prompt", "response"}


def test_no_system_message():
    assert Template(user="?", pattern="(.)").messages() == (Message("user", "?"),)


@pytest.mark.parametrize(
    "user",
    [
        "{question}",
        "{}",
        "{0}",
        "{response.text}",
        "{response!r}",
        "{response:>9}",
        "{response[0]}",
    ],
)
def test_unknown_placeholders_are_refused(user):
    with pytest.raises(ConfigError, match="unknown placeholder"):
        Template(user=user, pattern="(.)")
    with pytest.raises(ConfigError, match="unknown placeholder"):
        Template(user="{response}", system=user, pattern="(.)")


@pytest.mark.parametrize("user", ["{response", "response}", "{"])
def test_single_braces_are_refused(user):
    with pytest.raises(ConfigError, match="write a brace"):
        Template(user=user, pattern="(.)")


@pytest.mark.parametrize("pattern", ["no group", "(two)(groups)", "(", "[)"])
def test_wrong_patterns_are_refused(pattern):
    with pytest.raises(ConfigError, match="pattern="):
        Template(user="{response}", pattern=pattern)


@pytest.mark.parametrize("choices", [(), ("Yes",), ("Yes", "Yes"), ("Yes", "")])
def test_wrong_choices_are_refused(choices):
    with pytest.raises(ConfigError, match="choices="):
        Template(user="{response}", choices=choices)
    if choices:
        with pytest.raises(ConfigError, match="choices="):
            Template(user="{response}", choices=choices, pattern="(.)")


def test_what_a_judge_needs():
    template = Template(user="{prompt} {response}", pattern="(.)")
    template.require("response")
    Template(user="{response}", pattern="(.)").require("response")
    for names in (("one", "other"), ()):
        with pytest.raises(ConfigError, match="placeholders are"):
            template.require(*names)


@pytest.mark.parametrize(
    ("name", "text", "verdict"),
    [
        ("score", "It is fine. Score: 7", "7"),
        ("score", "Score: 3 would be harsh.\n**Score:** 10\n", "10"),
        ("score", "score: **8**", "8"),
        ("score", "Score: 8/10", "8"),
        ("score", "Score: 8.", "8"),
        ("score", "Score: 7.5", "7.5"),
        ("score", "Score: 10.5", None),
        ("score", "Score: 11", None),
        ("score", "Score: 0", None),
        ("score", "Seven.", None),
        ("compare_with_reasons", "A is long. better: B", "B"),
        ("compare_with_reasons", "Better: A\nNo: Better: **B**", "B"),
        ("compare_with_reasons", "Better: Apples", None),
        ("compare_with_reasons", "Better: C", None),
        ("right", "Yes", None),
    ],
)
def test_verdicts_of_the_shipped_templates(name, text, verdict):
    assert Template.named(name).verdict(text) == verdict


def test_only_choices_are_verdicts():
    template = Template(user="{response}", pattern=r"(\w+)\.", choices=("good", "bad"))
    assert template.verdict("It is good.") == "good"
    assert template.verdict("It is good. Is it?") == "good"
    assert template.verdict("It is good. It is ugly.") is None


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_templates_ask(name):
    template = Template.named(name)
    compares = "one" in template.placeholders
    template.require(*(("one", "other") if compares else ("response",)))
    *_, user = template.messages(prompt="p-p", response="r-r", one="1-1", other="2-2")
    for text in ("p-p", *(("1-1", "2-2") if compares else ("r-r",))):
        assert user.content.count(text) == 1
    assert "{{" not in user.content
    assert user.content == user.content.strip()


def test_every_shipped_template_is_in_the_documentation():
    page = Path(__file__).parents[2].joinpath("docs/rewards.md").read_text()
    assert all(f"`{name}`" in page for name in shipped_names())


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"choose one of boxed, .*, give the path of a TOML"):
        Template.named("best")


def test_own_files(tmp_path):
    """A file has the attributes of a template; whatever else it has is refused."""
    own = tmp_path / "own.toml"
    own.write_text('user = "{response}?"\npattern = "([0-9])"\nscale = [0, 5]\n')
    assert Template.from_file(str(own)) == Template(
        user="{response}?", pattern="([0-9])", scale=(0, 5)
    )
    for text, fault in (
        ('user = "{response}?"\npatern = "([0-9])"', "has patern, user: give user, and"),
        ('pattern = "([0-9])"', "has pattern: give user, and"),
        ("user = ", "cannot be read"),
        ('user = "{response}?"\npattern = 7', "pattern="),
        ('user = "{response}?"\nchoices = ["a", 7]', "choices="),
    ):
        own.write_text(text)
        with pytest.raises(ConfigError, match=fault):
            Template.from_file(own)
    with pytest.raises(ConfigError, match="cannot be read"):
        Template.from_file(tmp_path / "none.toml")


def test_the_rubric_is_a_setting():
    template = dataclasses.replace(Template.named("prometheus"), rubric="Is it {short}?")
    *_, user = template.messages(prompt="p", response="r")
    assert "###Rubric:\nIs it {short}?\n" in user.content


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"pattern": "(.)", "thought": True}, "beside a pattern"),
        ({"pattern": "(.)", "lead": "So:"}, "beside a pattern"),
        ({"choices": ("a", "b"), "thought": True}, "give lead"),
        ({"choices": ("a", "b"), "values": (1.0,)}, "one number for each"),
        ({"choices": ("a", "b"), "scale": (0, 1)}, "and no choices"),
        ({"pattern": "(.)", "scale": (1, 1)}, "least and the greatest"),
        ({"pattern": "(.)", "verdict_at": "middle"}, "verdict_at="),
    ],
)
def test_contradictions_are_refused(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        Template(user="{response}", **settings)


def test_templates_are_values():
    one = Template.named("score")
    assert one == Template.named("score")
    assert hash(one) == hash(Template.named("score"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.user = ""
