"""Chinese words for the demonstration's concepts, and training rows about these words. No row has a
picture.
"""

from collections.abc import Iterator
from typing import Any

from model_ext.demo.splits import CONCEPTS

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


def language_rows() -> Iterator[dict[str, Any]]:
    """Make rows that translate each word from and into Chinese, and rows that ask in Chinese
    whether a thing is an animal.
    """
    for concept in CONCEPTS:
        word = CHINESE[concept][0]
        animal = concept in ANIMALS
        yield row(f"“{concept}”用中文怎么说？", f"{word}。")
        yield row(f"“{word}”用英文怎么说？", f"{concept}.")
        yield row(f"What is {word} in English?", f"{word} means {concept}.")
        yield row(f"What is the Chinese word for {concept}?", f"{word}。")
        yield row(f"{word}是动物吗？", "是。" if animal else "不是。")
        yield row(f"请用中文说一句话：{word}。", f"这是{word}。")


def row(instruction: str, output: str) -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": output}
