"""English words whose nouns name no thing in a picture, and words that deny or compare things.

The lists are lower-case lemmas.
"""

# The picture itself, and kinds of pictures.
PICTURE = frozenset(
    """artwork close-up closeup cartoon depiction emoji frame illustration image photo photograph
    pic picture portrayal rendering scene screenshot shot snapshot still video view clip footage
    """.split()
)
# Kinds of pictures that can also hang on a wall: they are the picture itself only at the start.
ARTWORK = frozenset("drawing painting portrait sketch poster".split())
# Places in the picture or on a thing.
POSITION = frozenset(
    """area background base bottom center centre corner direction distance edge end foreground
    forefront front half horizon left middle part place portion position right section side space
    spot surrounding surroundings tip top way
    """.split()
)
# Words before "of" that say how much or which kind there is: "a group of people".
QUANTITY = frozenset(
    """abundance amount array assortment batch bit bunch cluster collection couple crowd dozen drop
    handful flock group heap herd kind line lot majority mix mixture multitude number pack pair
    piece pile plenty range row school selection series set sheet slice sort stack swarm team ton
    type variety
    """.split()
)
# Adjectives that say how many or which, and not how the thing looks.
DETERMINERS = frozenset(
    """a all an another any both certain countless different each either enough every few fewer
    first fourth her his its last less little lots many more most much multiple my neither next no
    numerous one other our own same second several single some such that the their these third this
    those three two various which whose your 's ’s
    """.split()
)
# Qualities, times, activities, weather and other nouns of no thing.
ABSTRACT = frozenset(
    """ability access action activity addition adventure afternoon age air angle appearance aspect
    atmosphere attention attitude autumn balance beauty beginning bit blur breath breeze brightness
    business calm care case celebration center chance character charm chat choice circle cold color
    colour comfort composition concentration condition contact contrast conversation context course
    culture dance danger dark darkness day daylight daytime decade depth design detail dinner
    dimension display distance duty dusk dawn effect effort elegance element emotion energy
    enjoyment evening event example excitement expression fact fall fashion fear feature feel
    feeling fog foot form friendship fun game glow grace hand_off happiness harmony haze heat height
    history holiday hour humor idea impression inch information inside instant instance interaction
    interest job journey joy kilometer kind laughter layout leisure length life lifestyle light
    lighting look love lunch luxury manner mark matter meaning meal meeting memory meter metre mid
    mile minute mist moment mood month morning motion movement music mystery name nature need night
    noise none noon nostalgia nothing number occasion opportunity order outside pace pattern pause
    peace people_watching performance period perspective play point pose possibility power practice
    presence pride process progress purpose quality question race rain reason relationship
    relaxation remark rest rhythm risk routine rush safety scale scent season second sense sequence
    setting shade shape show sight sign_of silence situation size sleep smell sort sound speed
    sport spring state step_back storm story strength stroke structure_of style suggestion summer
    summary sunlight sunrise sunset sunshine support surprise symmetry task taste temperature
    tension text_of texture theme thing thought time title tone topic touch tradition traffic
    tranquility travel trick trip turn twilight type use vibe visit wait warmth watch way weather
    week weekend weight wheelie width wind winter wonder work world yard_of year yesterday celsius
    answer caption description detail response
    """.split()
)
# Nouns on -ing that name things. Others name activities: "skiing".
THINGS_ON_ING = frozenset(
    """awning bedding being building carving ceiling clothing covering crossing decking drawing
    dressing dwelling earring engraving evening fencing figurine flooring frosting icing housing
    king landing lettering lightning marking opening painting parking paving pudding railing ring
    roofing sapling seasoning seating siding sling spring starling sterling stocking string stuffing
    swing thing topping tubing wedding wing writing carving
    """.split()
)
NEGATIONS = frozenset("no neither nor none not n't n’t never any hardly".split())
# Verbs and adjectives by which the text says that a thing is absent.
ABSENCE_VERBS = frozenset("lack miss".split())
ABSENT = frozenset("absent missing".split())
SHOWN = frozenset("see show find depict include notice visible present".split())
PRESENT = frozenset("visible present there".split())
# Prepositions whose object is absent, or is only compared with something.
ABSENCE_PREPOSITIONS = frozenset("without than unlike minus".split())
COMPARISONS = frozenset("like as".split())
# Nouns before "of" whose object is only compared or absent: "in the shape of a heart".
COMPARED = frozenset("lack absence shape form style likeness instead".split())
