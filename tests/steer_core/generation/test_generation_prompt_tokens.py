"""What a plan says reaches the prompt, whatever the template is like, and the same tokens on every day."""

import datetime

import pytest

from schemas.specs import Decoding
from steer_core.generation import prompt_tokens
from steer_core.generation.prompt_tokens import encode_plan, form_of
from steer_core.steering import Message, Plan
from steer_core.tables.errors import SteerworksError
from tests.conftest import tiny_tokenizer

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}<end>{% endif %}{% endfor %}"
)
PARTS = "{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{{ c.text }}{% endfor %}<end>{% endfor %}"
DATED = "Today is {{ strftime_now('%d %b %Y') }}." + TURNS
NEEDS_TOOLS = "{{ tools | length }}" + TURNS
SHOUTS = "{% for m in messages %}<{{ m.role }}>{{ m.content if m.content.startswith('qz') else m.content | upper }}{% endfor %}"


def tokenizer(template):
    made = tiny_tokenizer(True)
    made.chat_template = template
    return made


def prompt(template, *messages, **options):
    made = tokenizer(template)
    plan = Plan("m", Decoding(), tuple(Message(*m) for m in messages))
    return made.decode(encode_plan(plan, made, True, options))


ASKED = (("system", "Be brief."), ("user", "Tell me."))


def test_a_template_that_takes_system_messages_is_given_them():
    assert prompt(TURNS, *ASKED) == "<system>Be brief.<end><user>Tell me.<end>"


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_system_message_that_a_template_refuses_or_drops_stands_before_the_users_turn(template):
    assert prompt(template, *ASKED) == "<user>Be brief.\n\nTell me.<end>"
    # two opposite system prompts are two prompts
    assert prompt(template, ("system", "Be long."), ASKED[1]) != prompt(template, *ASKED)
    assert prompt(template, ("system", "Be brief.")) == "<user>Be brief.<end>"
    assert prompt(template, ("user", "Tell me.")) == "<user>Tell me.<end>"


def test_a_template_that_wants_parts_is_given_parts():
    assert prompt(PARTS, *ASKED) == "<system>Be brief.<end><user>Tell me.<end>"


def test_a_date_in_a_template_is_the_same_every_day():
    assert prompt(DATED, *ASKED).startswith("Today is 01 Jan 2025.")
    assert datetime.datetime.now().date() != prompt_tokens.TODAY.date()


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{% endfor %}Hello", "their words do not appear in what it writes"),
        ("{% for m in messages %}", "renders no conversation"),
        (NEEDS_TOOLS, "renders no conversation"),
    ],
)
def test_a_template_that_renders_no_conversation_is_refused_in_words(template, message):
    with pytest.raises(SteerworksError, match=message):
        prompt(template, *ASKED)


def test_what_a_template_needs_can_be_given():
    assert prompt(NEEDS_TOOLS, *ASKED, tools=[]).startswith("0<system>")


def test_a_message_whose_words_do_not_reach_the_prompt_refuses_the_plan():
    with pytest.raises(SteerworksError, match="leaves out a system message, or changes its words: 'Be brief.'"):
        prompt(SHOUTS, *ASKED)


def test_the_form_is_looked_for_once():
    made = tokenizer(DROPS_SYSTEM)
    assert form_of(made, {}) is form_of(made, {})
    assert not form_of(made, {}).system


def test_no_prompt_ends_in_a_token_that_ends_texts():
    from tokenizers.processors import TemplateProcessing

    made = tiny_tokenizer(False)
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<user> $A <end>", special_tokens=[("<user>", 2), ("<end>", 1)]
    )
    assert made("a")["input_ids"][-1] == 1
    text = Plan("m", Decoding(), text="more formal")
    turns = Plan("m", Decoding(), (Message("user", "more formal"),))
    for plan in (text, turns):
        ids = encode_plan(plan, made, False, {})
        assert ids[0] == 2
        assert ids[-1] != 1
    # an end that the text itself says stays
    assert encode_plan(Plan("m", Decoding(), text="more<end>"), made, False, {})[-1] == 1
