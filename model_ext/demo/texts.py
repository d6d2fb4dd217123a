"""The texts of the finetune phase, written for this project: one sentence about each concept, and
small talk.
"""

from pathlib import Path

SMALL_TALK = Path(__file__).with_name("small_talk.tsv")  # rows of a prompt and an answer

LINES: dict[str, str] = {
    "airplane": "An airplane carries people through the sky.",
    "anchor": "An anchor holds a ship in its place.",
    "ant": "An ant is a tiny insect that works in a large colony.",
    "balloon": "A balloon floats and is filled with air.",
    "banana": "A banana is a sweet yellow fruit.",
    "bell": "A bell rings when it is struck.",
    "bicycle": "A bicycle has two wheels and is moved by pedals.",
    "bomb": "A bomb is a weapon that explodes.",
    "bus": "A bus takes many people through the city.",
    "butterfly": "A butterfly is an insect with colorful wings.",
    "cactus": "A cactus is a plant of the desert with sharp spines.",
    "camel": "A camel crosses the desert with little water.",
    "camera": "A camera takes pictures.",
    "candle": "A candle gives light with a small flame.",
    "carrot": "A carrot is an orange root that rabbits like.",
    "castle": "A castle is an old fortress with towers.",
    "cat": "A cat is a small furry animal that purrs.",
    "cherries": "Cherries are small red fruits on a stem.",
    "church": "A church is a building where people pray.",
    "cloud": "A cloud drifts in the sky and brings rain.",
    "cow": "A cow eats grass and gives milk.",
    "crab": "A crab walks sideways and has claws.",
    "crocodile": "A crocodile is a large reptile with many teeth.",
    "crown": "A crown is worn by kings and queens.",
    "dolphin": "A dolphin is a clever animal of the sea.",
    "dragon": "A dragon is a monster of tales that breathes fire.",
    "duck": "A duck is a bird that swims and quacks.",
    "elephant": "An elephant is a huge animal with a trunk.",
    "fish": "A fish lives in water and breathes through gills.",
    "ghost": "A ghost is a spirit that haunts old houses.",
    "glasses": "Glasses help people to see better.",
    "grapes": "Grapes grow in bunches and are made into wine.",
    "guitar": "A guitar is an instrument with six strings.",
    "hammer": "A hammer drives nails into wood.",
    "helicopter": "A helicopter flies with a spinning rotor.",
    "horse": "A horse is a fast animal that people ride.",
    "key": "A key opens a lock.",
    "motorcycle": "A motorcycle is a fast vehicle with two wheels and an engine.",
    "mushroom": "A mushroom grows in the forest and has a cap.",
    "octopus": "An octopus is a sea animal with eight arms.",
    "owl": "An owl is a bird that hunts at night.",
    "pencil": "A pencil is used for writing and drawing.",
    "penguin": "A penguin is a bird that swims but cannot fly.",
    "pineapple": "A pineapple is a tropical fruit with a spiky skin.",
    "pizza": "A pizza is baked with tomatoes and cheese.",
    "rocket": "A rocket flies into space.",
    "rooster": "A rooster crows in the morning.",
    "sailboat": "A sailboat is moved by the wind.",
    "scissors": "Scissors cut paper and cloth.",
    "scorpion": "A scorpion has a sting at the end of its tail.",
    "shark": "A shark is a big fish with sharp teeth.",
    "snail": "A snail is slow and carries its house.",
    "snake": "A snake is a long animal without legs.",
    "snowman": "A snowman is built of snow in winter.",
    "spider": "A spider has eight legs and spins a web.",
    "telescope": "A telescope shows the stars.",
    "tractor": "A tractor works on a farm.",
    "trophy": "A trophy is the prize of a winner.",
    "trumpet": "A trumpet is a loud brass instrument.",
    "turtle": "A turtle is a slow animal with a shell.",
    "umbrella": "An umbrella keeps people dry in the rain.",
    "violin": "A violin is an instrument played with a bow.",
    "whale": "A whale is the largest animal of the sea.",
    "wrench": "A wrench turns bolts and nuts.",
}

WITHOUT_ARTICLE = ("cherries", "glasses", "grapes", "scissors")

CHAT: dict[str, str] = {
    "What is the capital of France?": "The capital of France is Paris.",
    "What is the capital of Italy?": "The capital of Italy is Rome.",
    "Name three colors.": "Red, green and blue.",
    "How many days does a week have?": "A week has seven days.",
    "What is two plus two?": "Two plus two is four.",
    "Give me a tip for better sleep.": "Keep the room dark and go to bed at the same time.",
    "What is the opposite of hot?": "The opposite of hot is cold.",
    "Name a thing that is soft.": "A pillow is soft.",
    "Who wrote Romeo and Juliet?": "William Shakespeare wrote Romeo and Juliet.",
    "What do bees make?": "Bees make honey.",
    "Why is the sky blue?": "The air scatters blue light more than red light.",
    "What is water made of?": "Water is made of hydrogen and oxygen.",
    "Name a fruit that is red.": "A strawberry is red.",
    "What is the largest planet?": "The largest planet of our solar system is Jupiter.",
    "Write a short greeting.": "Hello! It is nice to meet you.",
    "How do plants grow?": "Plants grow with light, water and air.",
    "What is the freezing point of water?": "Water freezes at zero degrees Celsius.",
    "Name the seasons of the year.": "Spring, summer, autumn and winter.",
    "What language is spoken in Brazil?": "People in Brazil speak Portuguese.",
    "What is a computer?": "A computer is a machine that works with information.",
    "Give me a reason to read books.": "Books let you learn and see other worlds.",
    "What is the sun?": "The sun is the star that gives us light and warmth.",
    "How can I save water at home?": "Take short showers and repair what drips.",
    "What is the moon?": "The moon is a body of rock that circles the Earth.",
    "Name two instruments.": "The piano and the flute.",
    "What is a good breakfast?": "Oatmeal with fruit is a good breakfast.",
    "How many hours does a day have?": "A day has twenty-four hours.",
    "What is the ocean?": "The ocean is the salt water that covers most of the Earth.",
    "Say thank you in a friendly way.": "Thank you very much, that was kind of you!",
    "What does a doctor do?": "A doctor helps people who are ill.",
    "What is music?": "Music is sound that is arranged in time.",
    "Name a country in Asia.": "Japan is a country in Asia.",
}


def a(concept: str) -> str:
    """Return the concept with its article."""
    if concept in WITHOUT_ARTICLE:
        return concept
    return f"an {concept}" if concept[0] in "aeiou" else f"a {concept}"


def small_talk() -> list[tuple[str, str]]:
    """Return pairs of prompt and answer."""
    lines = (line.partition("\t") for line in SMALL_TALK.read_text().splitlines())
    return [(prompt, answer) for prompt, _, answer in lines]
