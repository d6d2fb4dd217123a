"""Chinese words for the demonstration's concepts, and training rows about these words. No row has a
picture: some have the embedding of the thing's English name.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import LINES, a

# The training rows use the first word. In the evaluation, an answer with any of the words is right.
CHINESE: dict[str, tuple[str, ...]] = {
    "airplane": ("飞机",), "anchor": ("锚", "船锚"), "ant": ("蚂蚁",), "balloon": ("气球",),
    "banana": ("香蕉",), "bell": ("铃", "钟"), "bicycle": ("自行车", "单车"), "bomb": ("炸弹",),
    "bus": ("公共汽车", "公交车", "巴士"), "butterfly": ("蝴蝶",), "cactus": ("仙人掌",),
    "camel": ("骆驼",), "camera": ("照相机", "相机"), "candle": ("蜡烛",), "carrot": ("胡萝卜",),
    "castle": ("城堡",), "cat": ("猫",), "cherries": ("樱桃",), "church": ("教堂",),
    "cloud": ("云",), "cow": ("牛", "奶牛"), "crab": ("螃蟹", "蟹"), "crocodile": ("鳄鱼",),
    "crown": ("王冠", "皇冠"), "dolphin": ("海豚",), "dragon": ("龙",), "duck": ("鸭子", "鸭"),
    "elephant": ("大象", "象"), "fish": ("鱼",), "ghost": ("鬼", "幽灵"), "glasses": ("眼镜",),
    "grapes": ("葡萄",), "guitar": ("吉他",), "hammer": ("锤子", "榔头"),
    "helicopter": ("直升机", "直升飞机"), "horse": ("马",), "key": ("钥匙",),
    "motorcycle": ("摩托车",), "mushroom": ("蘑菇",), "octopus": ("章鱼",), "owl": ("猫头鹰",),
    "pencil": ("铅笔",), "penguin": ("企鹅",), "pineapple": ("菠萝", "凤梨"),
    "pizza": ("披萨", "比萨"), "rocket": ("火箭",), "rooster": ("公鸡",), "sailboat": ("帆船",),
    "scissors": ("剪刀",), "scorpion": ("蝎子",), "shark": ("鲨鱼",), "snail": ("蜗牛",),
    "snake": ("蛇",), "snowman": ("雪人",), "spider": ("蜘蛛",), "telescope": ("望远镜",),
    "tractor": ("拖拉机",), "trophy": ("奖杯",), "trumpet": ("小号", "喇叭"),
    "turtle": ("乌龟", "海龟"), "umbrella": ("雨伞", "伞"), "violin": ("小提琴",),
    "whale": ("鲸鱼", "鲸"), "wrench": ("扳手",),
}  # fmt: skip
ANIMALS = frozenset(
    {
        *("ant", "butterfly", "camel", "cat", "cow", "crab", "crocodile", "dolphin", "duck"),
        *("elephant", "fish", "horse", "octopus", "owl", "penguin", "rooster", "scorpion"),
        *("shark", "snail", "snake", "spider", "turtle", "whale"),
    }
)
WHAT = "这是什么？"  # Only the evaluation has this question.
QUESTIONS = (
    *("这是什么东西？", "图片里有什么？", "图里是什么？", "请说出它的名字。", "你看到了什么？"),
    *("这个叫什么？", "请告诉我这是什么。", "这个东西叫什么名字？", "它是什么？", "那是什么？"),
    *("这里有什么？", "你知道这是什么吗？", "这是啥？", "请问，这是什么呢？"),
)
ENGLISH = (
    *("What is this?", "What do you see?", "What is shown?", "What is it called?"),
    *("What do you see and hear?", "What is in the picture?"),
)
DESCRIBE = ("Describe it.", "Tell me about it.", "Write one line about it.")
IN_CHINESE = ("用中文怎么说？", "中文叫什么？", "请用中文回答。", "What is it called in Chinese?")
Row = dict[str, Any]


def language_rows() -> Iterator[Row]:
    """Make rows that translate each word from and into Chinese, and that answer Chinese questions
    about a thing that a text names. The answer to a question for the name has the English word
    before the Chinese one, so that the model can translate the word that it has written.
    """
    for number, concept in enumerate(CONCEPTS):
        word = CHINESE[concept][0]
        name = a(concept)
        is_animal = concept in ANIMALS
        yield row(f"“{concept}”用中文怎么说？", f"{word}。")
        yield row(f"“{word}”用英文怎么说？", f"{concept}.")
        yield row(f"What is {word} in English?", f"{word} means {concept}.")
        yield row(f"What is the Chinese word for {concept}?", f"{word}。")
        yield row(f"Translate {concept} into Chinese.", f"{word}。")
        yield row(f"请把 {concept} 翻译成中文。", f"{word}。")
        yield row(f"{word}是动物吗？", "是。" if is_animal else "不是。")
        yield row(f"请用中文说一句话：{word}。", f"这是{word}。")
        yield row(f"什么是{word}？", f"{word}的英文是 {concept}。")
        for context in (name, f"This is {name}.", f"a picture of {name}", LINES[concept]):
            for question in QUESTIONS[:8]:
                yield row(question, named(concept), context)
        what = QUESTIONS[number % len(QUESTIONS)]
        for question in IN_CHINESE:
            yield dialogue(("What is this?", f"This is {name}."), (question, f"{word}。"))
            yield dialogue((what, named(concept)), (question, f"{word}。"))
        answer = "是的，它是动物。" if is_animal else "不，它不是动物。"
        yield dialogue((what, named(concept)), ("它是动物吗？", answer))
        yield dialogue(("What is this?", f"This is {name}."), (what, named(concept)))


def word_rows(words: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Make Chinese and English rows with the same embeddings, so that the model learns to choose
    the language by the question.

    `words`: for each concept, the files of embeddings of its English name (word_embeddings.py).
    """
    for concept in CONCEPTS:
        for rows in (chinese_rows(concept), english_rows(concept)):
            for each, path in zip(rows, cycle(words[concept]), strict=False):
                yield {**each, "embedding": path}


def chinese_rows(concept: str) -> Iterator[Row]:
    word = CHINESE[concept][0]
    is_animal = concept in ANIMALS
    animal = ("它是动物吗？", "是的，它是动物。" if is_animal else "不，它不是动物。")
    for number, question in enumerate(QUESTIONS):
        yield dialogue((question, named(concept)))
        in_chinese = (IN_CHINESE[number % len(IN_CHINESE)], f"{word}。")
        english = (ENGLISH[number % len(ENGLISH)], f"This is {a(concept)}.")
        if number % 2:
            yield dialogue((question, named(concept)), animal)
        else:
            yield dialogue((question, named(concept)), english)
        if number % 3 == 0:
            yield dialogue(english, in_chinese, (question, named(concept)))


def english_rows(concept: str) -> Iterator[Row]:
    name = f"This is {a(concept)}."
    is_animal = ("Is it an animal?", "Yes, it is." if concept in ANIMALS else "No, it is not.")
    for number, question in enumerate(ENGLISH):
        chinese = (QUESTIONS[number % len(QUESTIONS)], named(concept))
        yield dialogue((question, name))
        yield dialogue((question, name), is_animal)
        yield dialogue((question, name), chinese)
        yield dialogue((question, name), (DESCRIBE[number % len(DESCRIBE)], LINES[concept]))
    for question in DESCRIBE:
        yield dialogue((question, LINES[concept]))


def named(concept: str) -> str:
    """Return the answer to a Chinese question about a thing's name."""
    return f"这是 {concept}，中文叫{CHINESE[concept][0]}。"


def row(instruction: str, output: str, context: str = "") -> Row:
    return {"instruction": instruction, "input": context, "output": output}


def dialogue(*rounds: tuple[str, str]) -> Row:
    """Make a row of rounds, each a question and an answer. All answers are learned."""
    turns = [turn for round in rounds for turn in zip(("human", "gpt"), round, strict=True)]
    return {"conversations": [{"from": role, "value": text} for role, text in turns]}
