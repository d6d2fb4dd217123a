"""Tokens of a caption, close to those of pycocoevalcap's Java tokeniser (Penn Treebank).

Lower-cases, splits clitics and punctuation, and drops the punctuation that pycocoevalcap drops.
"""

import re
import unicodedata

SPLIT_WORDS = {
    "cannot": "can not",
    "gonna": "gon na",
    "wanna": "wan na",
    "gotta": "got ta",
    "gimme": "gim me",
    "lemme": "lem me",
    "'twas": "'t was",
    "'tis": "'t is",
}
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
DROPPED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])
SPELLED = {"€": "$", "£": "#", "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 "}
QUOTES = '“”„«»"‘‹›'
DASHES = "–—―"
ABBREVIATIONS = (
    "dr mr mrs ms prof sr jr st no vs etc inc ltd co corp ave blvd rd mt ft gen col sgt capt lt "
    "rev hon sen rep gov pres jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed "
    "thu thur thurs fri sat dept est approx fig"
)
CLITIC = re.compile(r"(?:['’](?:s|re|ve|ll|d|m)|n['’]t)$")
LETTER = r"[^\W\d_]"
WORD = r"[\w\u0300-\u036f]"  # `\w` does not match combining marks
TOKEN = re.compile(
    rf"""
      https?://[^\s"<>]+ | www\.[^\s"<>]+
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                 # an address
    | (?:{LETTER}\.)+{LETTER}s?\b\.? | (?<!\w){LETTER}\.             # u.s.a., p.m., j.
    | \b(?:{"|".join(ABBREVIATIONS.split())})\.
    | \#{LETTER}\w*                                                # a tag
    | '(?:n'|em\b|til\b|twas\b|tis\b) | (?<!\w)['’](?:s|re|ve|ll|d|m)\b
    | \d+(?::\d+)+ | (?<!\w)\.\d+ | \d+(?:[.,/-]\d+)+(?:{LETTER}+)?  # 5:30, .5, 1,000.5
    | {WORD}+(?:[-/'’]{WORD}+)*                                    # a word, or several joined
    | \.{{2,}} | -{{2,}} | [?!]+ | ''|``
    | \S
    """,
    re.VERBOSE,
)


def ptb_tokens(text: str) -> list[str]:
    """Return the tokens of a caption in lower case, without punctuation."""
    text = "".join(SPELLED.get(character, character) for character in text).lower()
    tokens: list[str] = []
    for match in TOKEN.finditer(text):
        tokens += split_token(match[0])
    return tokens


def split_token(token: str) -> list[str]:
    if token in SPLIT_WORDS:
        return SPLIT_WORDS[token].split()
    if token in BRACKETS:
        return [BRACKETS[token]]
    if token in DROPPED or token in QUOTES or token in DASHES or set(token) in ({"."}, {"-"}):
        return []
    if len(token) == 1 and not token.isascii() and not is_word_character(token):
        return []  # the Java tokeniser drops symbols and emoji
    clitic = CLITIC.search(token)
    if clitic and clitic.start():
        return [token[: clitic.start()], clitic[0]]
    return [token]


def is_word_character(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LM" or category in ("Nd", "Sc")
