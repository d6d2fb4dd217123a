"""Chinese words for the demonstration's concepts, and training rows about these words. No row has a
picture.
"""

from collections.abc import Iterator
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
WHAT = "这是什么？"
QUESTIONS = (
    *(
        WHAT,
        "这是什么东西？",
        "图片里有什么？",
        "图里是什么？",
        "请说出它的名字。",
        "你看到了什么？",
    ),
    *("这个叫什么？", "请告诉我这是什么。"),
)
IN_CHINESE = ("用中文怎么说？", "中文叫什么？", "请用中文回答。", "What is it called in Chinese?")


def language_rows() -> Iterator[dict[str, Any]]:
    """Make rows that translate each word from and into Chinese, and that answer Chinese questions
    about a thing that a text names. The answer to "What is this?" has the English word before the
    Chinese one, so that the model can translate the word that it has written.
    """
    for concept in CONCEPTS:
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
            for question in QUESTIONS:
                yield row(question, named(concept), context)
        for question in IN_CHINESE:
            yield follow_up("What is this?", f"This is {name}.", question, f"{word}。")
            yield follow_up(WHAT, named(concept), question, f"{word}。")
        answer = "是的，它是动物。" if is_animal else "不，它不是动物。"
        yield follow_up(WHAT, named(concept), "它是动物吗？", answer)
        yield follow_up("What is this?", f"This is {name}.", WHAT, named(concept))


def named(concept: str) -> str:
    """Return the answer to a Chinese question about a thing's name."""
    return f"这是 {concept}，中文叫{CHINESE[concept][0]}。"


def row(instruction: str, output: str, context: str = "") -> dict[str, Any]:
    return {"instruction": instruction, "input": context, "output": output}


def follow_up(first: str, reply: str, second: str, answer: str) -> dict[str, Any]:
    rounds = (("human", first), ("gpt", reply), ("human", second), ("gpt", answer))
    return {"conversations": [{"from": role, "value": text} for role, text in rounds]}
