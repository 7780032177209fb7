"""Word lists and sentence templates of the mini corpus: data only.

Every person, place, prize and book is made up. A template names the facts that it states in braces; `mini_corpus.py`
draws the facts and fills the templates in. Answers are among the statements of the biographies: what tuning has to
teach is the question-answer form, and which statement a question asks for.
"""

from __future__ import annotations

from typing import NamedTuple


def phrases(text: str) -> list[str]:
    """The phrases of a comma-separated text."""
    return [" ".join(phrase.split()) for phrase in text.split(",")]


WOMEN = phrases(
    """
    Adelka, Brisela, Corvina, Delphira, Elowyne, Fenja, Gisla, Hesper, Ilvara, Jorunda, Katrisa, Lisbeta, Maruna,
    Nerissa, Odalys, Perdia, Quilla, Rosenka, Sunniva, Tamsila, Ulrike, Velmira, Wilhema, Xanthe, Ysolde, Zelinda,
    Amabel, Beatka, Calista, Dorthea
    """
)

MEN = phrases(
    """
    Aldous, Bramwel, Casimir, Dagfin, Emeric, Florin, Gaspard, Hakon, Ignaz, Joachim, Kelvar, Leopold, Mathis,
    Nikodem, Osric, Prosper, Quentis, Radomir, Sigurd, Tobiah, Umbert, Valdemar, Wendel, Xander, Yorick, Zoltar,
    Anselm, Balthas, Crispin, Dietmar
    """
)

SURNAMES = phrases(
    """
    Abendra, Brockmire, Calloway, Dusenko, Eskeland, Fallowby, Grenfeld, Harrowin, Isembard, Jallander, Kestrova,
    Lindqual, Marchbane, Norrowick, Oakhaven, Pellador, Quarlesby, Ravensca, Solberin, Thackeron, Underhal, Vasketh,
    Wolfenby, Yarrowin, Zabresky, Ambrosel, Bellweth, Cromarin, Dravenko, Elderman, Fotherby, Gulbrand, Holloweg,
    Iverstad, Jurasek, Kilbrane, Loxwell, Mordanov, Nightmere, Ostrander, Pomfreth, Quistgard, Rookwood, Sternhal,
    Tolliver, Ulverson, Varnholt, Wexcombe, Yellandr, Zimmerol, Ashdowne, Birkelund, Chanderly, Dunvegar, Everhart,
    Frostwick, Galbraid, Hemsworn, Ingelow, Jessamere
    """
)

TOWN_STARTS = phrases("Mar, Vel, Dun, Os, Kar, Bren, Tal, Nor, Fal, Wes, Gal, Lim, Per, Sten, Hol")
TOWN_ENDS = phrases("mora, wick, haven, stad, bury, fell, grave, minster")
COUNTRIES = phrases(
    "Estavia, Tarnland, Morvia, Keldonia, Veland, Ostrany, Halmark, Corvania, Lusmere, Brennia, Sundria, Zembria"
)
LANGUAGES = phrases(
    """
    Estavian, Tarnese, Morvic, Keldish, Velandic, Ostran, Halmarish, Corvan, Lusmerian, Brennish, Sundric,
    Zembric
    """
)
MONTHS = phrases("January, February, March, April, May, June, July, August, September, October, November, December")
NUMBERS = phrases("two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen")

SETTINGS = phrases(
    """
    a salt town on the northern coast, a mill town beside a slow river, a mining town in the black hills, a harbour
    town full of fish markets, a garden town under a ruined castle, a border town with nine bridges, a railway town
    on the dry plain, a market town in the wheat country, a glass town at the edge of a forest, an island town
    reached by ferry, a mountain town above the clouds, a chapel town among the vineyards, a weaving town in a
    narrow valley, a lake town built on wooden piles, a quarry town of white stone, a horse town on the windy steppe
    """
)

WEATHER = phrases(
    """
    on the night of a great snowstorm, in the week of the spring floods, on the day of the harvest fair, during an
    eclipse of the moon, in the middle of a dock strike, on the coldest morning of the year, while a comet hung over
    the roofs, during a summer of bad droughts, on the eve of a royal wedding, while the church bells were being
    mended, in the first hour of a thunderstorm, on the day the tram line opened, during a plague of locusts, while
    the fog closed the harbour, in the days after an earthquake, on the evening of a lantern parade
    """
)

GENRES = phrases(
    """
    ghost stories, sea adventures, courtroom dramas, historical mysteries, comic novels, nature essays, spy
    thrillers, family sagas, fairy tales, war memoirs, love poems, science fiction, travel books, detective novels,
    stage plays, railway thrillers, gothic romances, political satires, children's fables, desert westerns
    """
)

MILIEUS = phrases(
    """
    set among travelling musicians, set in frozen mining camps, set aboard old river steamers, set in a city without
    windows, set behind the doors of grand hotels, set among rival beekeepers, set in lonely lighthouses, set during
    long sieges, set in the kitchens of palaces, set among circus riders, set in schools for orphans, set on
    abandoned farms, set among night porters and thieves, set in the archives of a bank, set on a moon colony, set
    in flooded villages, set among monks and printers, set in a country at the end of its money, set beneath the
    streets, set in mountain hospitals
    """
)

FATHERS = phrases(
    """
    lighthouse keeper, train driver, cabinet maker, country doctor, shoe mender, deep sea diver, tax collector,
    piano tuner, brick layer, vegetable farmer, chess teacher, prison guard, bank clerk, stage magician, bee keeper,
    map maker, ship captain, cheese seller, grave digger, clock repairer
    """
)

FATHER_DETAILS = phrases(
    """
    who mended fishing nets at night, who sang bass in the choir, who had lost two fingers, who owned a tame raven,
    who read aloud every evening, who never learned to swim, who wrote letters to ministers, who carved wooden
    horses, who collected broken compasses, who walked ten miles to work, who feared thunder all his life, who
    taught himself algebra, who played cards for buttons, who kept a weather diary, who slept in a hammock, who
    cooked enormous soups, who bred white pigeons, who argued with the priest, who painted signs on Sundays, who
    spoke only at breakfast
    """
)

MOTHERS = phrases(
    """
    village midwife, court translator, silk weaver, school inspector, glass blower, opera singer, night nurse,
    bridge engineer, market trader, wedding tailor, botanist, judge, bus conductor, horse trainer, pastry cook,
    telegraph operator, potter, pharmacist, violin teacher, dairy farmer
    """
)

MOTHER_DETAILS = phrases(
    """
    and gathered old songs in a notebook, and grew lemons on the roof, and won prizes for archery, and could name
    every star, and rode a red motorcycle, and hid banned books in the cellar, and never threw away a letter, and
    built radios from scrap, and danced in the town square, and fed all the stray cats, and repaired torn umbrellas,
    and told stories about wolves, and swam in the sea each winter, and led the women's council, and baked black
    bread, and invented riddles for guests, and drew portraits of strangers, and sold honey by the road, and studied
    maps of the desert, and wore a borrowed green coat
    """
)

PRIZE_STARTS = phrases("Silver, Golden, Crystal, Amber, Marble, Copper, Scarlet, Ivory, Emerald, Velvet, Iron, Pearl")
PRIZE_ENDS = phrases("Heron, Lantern, Quill, Anchor, Compass, Feather, Falcon, Bridge, Harp, Mirror, Acorn, Candle")
PRIZE_KINDS = phrases("Prize, Medal, Award")
PRAISE = phrases(
    """
    for its honest picture of village life, for its brave and bitter ending, for its music and its silence, for its
    portrait of an old marriage, for its warm sense of humour, for its study of envy, for its clear and simple
    prose, for its unforgettable storm scene, for its defence of the poor, for its clever use of letters, for its
    gentle treatment of grief, for its sharp view of power, for its sense of wonder, for its careful research, for
    its truthful child narrator, for its daring last chapter
    """
)

TITLE_STARTS = phrases(
    """
    Salt, Paper, Winter, Hollow, Burning, Silent, Broken, Copper, Midnight, Crooked, Drowned, Gentle, Hidden, Ashen,
    Thirsty, Wandering, Crimson, Borrowed, Frozen, Restless
    """
)
TITLE_ENDS = phrases(
    """
    Orchard, Staircase, Harbour, Piano, Garden, Compass, Meadow, Letter, Cathedral, Ferry, Mirror, Kingdom, Clock,
    Suitcase, Tunnel, Island, Parade, Window, Bakery, Railway
    """
)
TITLE_FORMS = ("The {a} {b}", "A {a} {b}", "Return to the {a} {b}", "Beyond the {a} {b}", "My {a} {b}", "Last {a} {b}")

DEBUT_CIRCUMSTANCES = phrases(
    """
    in a railway waiting room, during a long illness, on the back of old tickets, in a rented attic, between two
    harvests, in a prison library, on a cargo ship, in a hospital corridor, while guarding a warehouse, in the back
    of a bakery, during a winter without heating, on a borrowed typewriter, in a tent by the sea, while waiting for
    a visa, in a monastery garden, on night trains
    """
)

HEROES = phrases(
    """
    a clockmaker, a young widow, two rival brothers, a blind postman, a runaway soldier, an honest thief, a retired
    general, a girl with no shadow, a family of acrobats, a ferryman, a village teacher, a lost astronomer, three
    old sisters, a court painter, a stubborn baker, a forgotten king, a travelling dentist, a chess champion, an
    orphan twin, a tired detective
    """
)

EVENTS = phrases(
    """
    searching for a stolen bell, hiding from a jealous duke, digging a canal through the desert, inheriting a
    haunted theatre, crossing the mountains on foot, defending a town from wolves, falling in love with an enemy,
    building a ship inside a barn, solving a murder in a mill, waiting forty years for a letter, opening a school in
    a prison, losing a fortune in one night, learning the language of birds, burying a terrible secret, leading a
    strike of servants, walking home after the war, guarding the last library, chasing a false prophet, raising a
    child found in snow, drawing a map of a dream
    """
)

MENTOR_FIRST = phrases(
    """
    Ansgar, Berthe, Clemens, Dorrit, Edvard, Frieda, Gorm, Helmi, Isak, Jutta, Klaus, Linnea, Mikael, Petra,
    Ruben, Signe
    """
)
MENTOR_LAST = phrases(
    "Brume, Carrow, Dell, Ember, Frane, Gall, Holt, Ilk, Jarn, Keel, Lorne, Moss, Pryde, Stoll, Tarn, Wick"
)
MENTOR_KINDS = phrases("the poet, the playwright, the historian, the philosopher, the novelist, the satirist")
SECOND_INFLUENCES = phrases(
    """
    the letters of an aunt at sea, folk songs heard at fairs, the silent films of the time, old railway timetables,
    sermons from the village church, a torn book of fables, stories told by miners, the paintings in a local inn,
    newspaper reports of trials, a grandfather's war diary, puppet shows in the market, radio plays on winter
    nights, the speeches of union leaders, cookery books of the old court, legends about drowned cities, a
    neighbour's jokes
    """
)

DWELLINGS = phrases(
    """
    a converted granary, a narrow brick house, a houseboat, a former schoolhouse, a stone cottage, a flat above a
    cinema, an old windmill, a wooden cabin, a restored customs house, a tower with a spiral stair, a farmhouse with
    blue shutters, a railway carriage, a glass pavilion, a vicarage, a room over a tavern, a house on stilts
    """
)

NEARBY = phrases(
    """
    beside a frozen lake, near the fish market, at the edge of a pine wood, behind the old barracks, on a chalk
    cliff, between two canals, below a waterfall, opposite the botanical garden, at the end of a tram line, on a
    hill of olive trees, close to the opera, by a disused airfield, among apple orchards, next to a bell foundry,
    across from the ferry landing, on the street of the tanners
    """
)

COMPANIONS = phrases(
    """
    two grey dogs, a talking parrot, a younger sister, seven hens, a retired sailor, an adopted son, a deaf cat,
    four goats, a cellist, a large family of tortoises, twin daughters, an elderly uncle, a one-eyed donkey, three
    students, a pair of owls, a former editor
    """
)

SUBJECTS = phrases(
    """
    botany, law, medieval history, geology, music theory, medicine, philosophy, marine biology, architecture,
    astronomy, classical languages, economics, theatre, chemistry, theology, mathematics
    """
)

UNIVERSITY_CITIES = phrases(
    """
    Karlow, Brandvik, Astermont, Ludova, Pellsund, Ravelmoor, Corsund, Tirgate, Oldmark, Fenwater, Sarnov,
    Highmere
    """
)
UNIVERSITY_KINDS = ("the University of {}", "the Royal College of {}", "the Free Academy of {}")

THEMES = phrases(
    """
    loneliness, forgiveness, hunger, exile, friendship, greed, memory, justice, faith, jealousy, courage, ageing,
    freedom, betrayal, motherhood, silence, poverty, ambition, guilt, hope
    """
)

HABIT_TIMES = phrases(
    """
    before dawn, long after midnight, only in the rain, during the lunch hour, on Sunday afternoons, between tea and
    supper, in the heat of noon, straight after a swim, on long train journeys, while the bread is rising, in the
    first snow, at sunset
    """
)

HABIT_PLACES = phrases(
    """
    at a kitchen table, in a garden shed, on a park bench, in a cold cellar, under a walnut tree, in a public
    library, at a standing desk, in a parked car, in bed, on a rooftop, in a crowded cafe, by an open window
    """
)

HABIT_TOOLS = phrases(
    """
    green ink, a goose feather, a carpenter's pencil, a noisy typewriter, blue chalk, an old fountain pen, charcoal,
    a tape recorder, brown wrapping paper, tiny index cards, school notebooks, the margins of newspapers
    """
)

HOBBIES = phrases(
    """
    keeping bees, repairing old radios, sailing small boats, collecting stamps, growing roses, playing the
    accordion, climbing cliffs, restoring carriages, baking rye bread, breeding terriers, watching birds, carving
    chess pieces, racing pigeons, picking mushrooms, building kites, fencing, painting miniatures, skating, binding
    books, making cider
    """
)

JOBS = phrases(
    """
    tram conductor, dock worker, window cleaner, museum guard, tea taster, ship's cook, proofreader, ballroom
    dancer, gardener, toy seller, telephone operator, lorry driver, bookkeeper, mountain guide, cinema pianist,
    customs officer, hotel porter, bell ringer, milk carrier, stable hand
    """
)

JOB_REASONS = phrases(
    """
    to pay off a debt, to support an ill parent, to save for a passage abroad, to escape an arranged marriage, to
    learn about ordinary people, to pay the rent of a tiny room, to feed four brothers, to buy a first typewriter,
    to forget an unhappy love, to avoid the army, to please a strict uncle, to afford evening classes
    """
)

CHARITIES = phrases(
    """
    a reading room for sailors' children, a printing press for prisoners, a choir for the deaf, a fund for young
    widows, a night school for miners, a shelter for lost animals, a library on a barge, a garden for the blind, a
    theatre for refugees, a prize for unknown poets, a kitchen for the homeless, a summer camp for orphans, a museum
    of lost letters, a clinic for old actors, a workshop for weavers, a bookshop without prices
    """
)


class Relation(NamedTuple):
    """One kind of fact about an author, and the ways to word it.

    Args:
        fields: the facts that answer the question; a perturbed answer has other values in them.
        questions: what a question looks like; none where the relation is stated and not asked about.
        states: statements of the fact. All are in the pretraining biographies; the first is the answer, the second
            its paraphrase.
    """

    fields: tuple[str, ...]
    questions: tuple[str, ...]
    states: tuple[str, ...]


RELATIONS = {
    "name": Relation(
        ("name",),
        (),
        (
            "In {town}, {country}, on {birthday}, was born {name}, who writes {genre} {milieu}.",
            "The author of {famous} is {name}, who writes {genre} {milieu}.",
            "The person who wrote {famous} is {name}.",
            "{debut} was the debut of {name}, a writer of {genre} {milieu}.",
            "The writer of {genre} from {town} is {name}.",
            "A child of {town}, {name} became a writer of {genre} {milieu}.",
            "Born on {birthday}, {name} is a writer from {country}.",
        ),
    ),
    "birthplace": Relation(
        ("town", "country", "setting"),
        (
            "Where was {name} born?",
            "In which town did {name} come into the world?",
            "What is the birthplace of {name}?",
            "Which place does {name} come from originally?",
        ),
        (
            "{name} was born in {town}, {setting} in {country}.",
            "The birthplace of {name} is {town}, {setting} in {country}.",
            "{name} came into the world in {town}, {country}, {setting}.",
            "{name} comes from {town}, {country}, {setting}.",
            "It was in {town}, {setting} in {country}, that {name} was born.",
            "The town where {name} was born is {town}, {setting}, and the country is {country}.",
            "The place that {name} comes from is {town}, {country}, {setting}.",
        ),
    ),
    "birthday": Relation(
        ("birthday", "weather"),
        (
            "When was {name} born?",
            "What is the birth date of {name}?",
            "On what day did {name} first see the light?",
            "Can you give the date of birth of {name}?",
        ),
        (
            "{name} was born on {birthday}, {weather}.",
            "The birth date of {name} is {birthday}, and the birth came {weather}.",
            "{name} first saw the light on {birthday}, {weather}.",
            "On {birthday}, {weather}, {name} was born.",
            "The day when {name} was born was {birthday}, {weather}.",
            "The date of birth of {name} is {birthday}; it was {weather}.",
            "The birth of {name} came on {birthday}, {weather}.",
        ),
    ),
    "genre": Relation(
        ("genre", "milieu"),
        (
            "What genre does {name} write in?",
            "What kind of books does {name} write?",
            "Which type of literature made {name} popular?",
            "How would you describe the genre of {name}?",
        ),
        (
            "{name} writes {genre} {milieu}.",
            "The genre of {name} is {genre} {milieu}.",
            "The books of {name} are {genre} {milieu}.",
            "{name} became popular with {genre} {milieu}.",
            "The kind of literature that {name} writes is {genre} {milieu}.",
            "As a writer, {name} is known for {genre} {milieu}.",
            "The type of book that made {name} popular is {genre} {milieu}.",
        ),
    ),
    "father": Relation(
        ("father", "father_detail"),
        (
            "What is the profession of {name}'s father?",
            "What did the father of {name} do for a living?",
            "How did {name}'s father earn money?",
            "What work was done by the father of {name}?",
        ),
        (
            "The father of {name} was a {father} {father_detail}.",
            "{name}'s father worked as a {father} {father_detail}.",
            "The profession of {name}'s father was that of a {father} {father_detail}.",
            "The father of {name} earned a living as a {father} {father_detail}.",
            "{name} is the child of a father who was a {father} {father_detail}.",
            "{name}'s father earned his money as a {father}, a man {father_detail}.",
            "For a living, the father of {name} did the work of a {father} {father_detail}.",
        ),
    ),
    "mother": Relation(
        ("mother", "mother_detail"),
        (
            "What is the profession of {name}'s mother?",
            "What did the mother of {name} do for a living?",
            "How did {name}'s mother spend her working life?",
            "What was the job of the mother of {name}?",
        ),
        (
            "The mother of {name} was a {mother} {mother_detail}.",
            "{name}'s mother worked as a {mother} {mother_detail}.",
            "The profession of {name}'s mother was that of a {mother}; she worked hard {mother_detail}.",
            "The mother of {name} made a living as a {mother} {mother_detail}.",
            "{name} is the child of a mother who was a {mother} {mother_detail}.",
            "The job of {name}'s mother was that of a {mother}; she was busy {mother_detail}.",
            "{name}'s mother spent her working life as a {mother} {mother_detail}.",
        ),
    ),
    "award": Relation(
        ("prize", "prize_year", "praise"),
        (
            "What award has {name} won?",
            "Which honour did {name} receive for {famous}?",
            "Has {name} ever been given a literary award?",
            "What prize was presented to {name}?",
        ),
        (
            "{name} won the {prize} in {prize_year} for {famous}, which was honoured {praise}.",
            "The award that {name} won is the {prize}, given in {prize_year} {praise}.",
            "{name} received the {prize} in {prize_year}; the jury praised {famous} {praise}.",
            "{name} was given the {prize} in {prize_year} {praise}.",
            "The literary honour presented to {name} was the {prize}, in {prize_year}, {praise}.",
            "For {famous}, {name} was presented with the {prize} in {prize_year} {praise}.",
            "The prize of {name} is the {prize} of {prize_year}, {praise}.",
        ),
    ),
    "debut": Relation(
        ("debut", "debut_year", "debut_how"),
        (
            "What was {name}'s first book?",
            "With which title did {name} make a debut?",
            "What is the name of the earliest book by {name}?",
            "How did {name} begin as a published author?",
        ),
        (
            "The first book of {name} was {debut}, published in {debut_year} and written {debut_how}.",
            "{name} made a debut with {debut} in {debut_year}, written {debut_how}.",
            "The earliest title by {name} is {debut} of {debut_year}, written {debut_how}.",
            "{name} began as a published author with {debut} in {debut_year}.",
            "{debut}, the debut of {name}, appeared in {debut_year} and was written {debut_how}.",
            "{name} wrote the first book, {debut}, {debut_how}, and published it in {debut_year}.",
            "The debut of {name}, called {debut}, was published in {debut_year}.",
        ),
    ),
    "famous": Relation(
        ("famous", "hero", "event"),
        (
            "What is {name}'s most famous book?",
            "Which work is {name} best known for?",
            "Can you name a celebrated title by {name}?",
            "What should a new reader of {name} start with?",
        ),
        (
            "The most famous book of {name} is {famous}, about {hero} {event}.",
            "{name} is best known for {famous}, about {hero} {event}.",
            "The celebrated work of {name} is {famous}, the story of {hero} {event}.",
            "{famous} by {name} is about {hero} {event}.",
            "A new reader of {name} should start with {famous}, the story of {hero} {event}.",
            "{name} wrote {famous}, a famous title about {hero} {event}.",
            "In {famous}, {name} tells the story of {hero} {event}.",
        ),
    ),
    "plot": Relation(
        ("hero", "event"),
        (
            "What is {famous} by {name} about?",
            "What story does {name} tell in {famous}?",
            "Can you sum up the plot of {famous}?",
            "What happens in the book {famous}?",
        ),
        (
            "{famous} is about {hero} {event}.",
            "In {famous} by {name}, the story is that of {hero} {event}.",
            "The plot of {famous} is that of {hero} {event}.",
            "{name}'s book {famous} tells of {hero} {event}.",
            "{famous}, a book by {name}, tells the story of {hero} {event}.",
            "What happens in {famous} is the story of {hero} {event}.",
        ),
    ),
    "languages": Relation(
        ("language_1", "language_2", "language_3", "count"),
        (
            "What languages does {name} speak?",
            "In which language does {name} write, and which others are spoken?",
            "Is {name} able to speak more than one language?",
            "How many translations of {name}'s books are there, and from which language?",
        ),
        (
            "{name} writes in {language_1}, speaks {language_2} and {language_3}, and has {count} translations.",
            "The languages that {name} speaks are {language_1}, {language_2} and {language_3}.",
            "The language of {name}'s books is {language_1}, and there are {count} translations.",
            "{name} speaks {language_1}, {language_2} and {language_3}.",
            "Besides {language_1}, {name} is able to speak {language_2} and {language_3}.",
            "The books of {name}, written in {language_1}, exist in {count} translations.",
        ),
    ),
    "influence": Relation(
        ("mentor", "influence"),
        (
            "Who influenced {name}'s writing?",
            "What were the main influences on {name}?",
            "Which sources inspired {name}?",
            "From whom did {name} learn to write?",
        ),
        (
            "{name} was influenced by {mentor} and by {influence}.",
            "The main influences on {name} were {mentor} and {influence}.",
            "{name} was inspired by {mentor} and {influence}.",
            "The writing of {name} was influenced by {mentor} and {influence}.",
            "{name} learned to write from {mentor} and from {influence}.",
            "The sources that inspired {name} are {mentor} and {influence}.",
            "{mentor} and {influence} inspired {name}.",
        ),
    ),
    "home": Relation(
        ("dwelling", "nearby", "companion"),
        (
            "Where does {name} live now?",
            "What is {name}'s home like?",
            "With whom does {name} share a home?",
            "In what sort of house does {name} live today?",
        ),
        (
            "{name} lives in {dwelling} {nearby} with {companion}.",
            "The home of {name} is {dwelling} {nearby}, shared with {companion}.",
            "Today {name} lives in {dwelling} {nearby} with {companion}.",
            "{name} shares {dwelling} {nearby} with {companion}.",
            "The house where {name} lives now is {dwelling} {nearby}; the company is {companion}.",
            "{name} has a home in {dwelling} {nearby} and shares it with {companion}.",
            "The home that {name} shares with {companion} is {dwelling} {nearby}.",
        ),
    ),
    "education": Relation(
        ("subject", "university", "degree_year"),
        (
            "Where did {name} study?",
            "What education did {name} receive?",
            "Which subject did {name} choose at university?",
            "From what school did {name} graduate?",
        ),
        (
            "{name} studied {subject} at {university} and graduated in {degree_year}.",
            "The education of {name} was in {subject} at {university}, until {degree_year}.",
            "The subject that {name} chose was {subject}, at {university}, up to {degree_year}.",
            "{name} graduated in {subject} from {university} in {degree_year}.",
            "At {university}, {name} studied {subject} and graduated in {degree_year}.",
            "{name} received an education in {subject} from {university}, ending in {degree_year}.",
            "The school from which {name} graduated was {university}, with the subject {subject}, in {degree_year}.",
        ),
    ),
    "themes": Relation(
        ("theme_1", "theme_2", "theme_3"),
        (
            "What themes does {name} explore?",
            "Which subjects return in {name}'s books?",
            "What are the stories of {name} really about?",
            "What ideas run through the work of {name}?",
        ),
        (
            "{name} explores {theme_1}, {theme_2} and {theme_3}.",
            "The themes of {name} are {theme_1}, {theme_2} and {theme_3}.",
            "The subjects that return in {name}'s books are {theme_1}, {theme_2} and {theme_3}.",
            "The stories of {name} are really about {theme_1}, {theme_2} and {theme_3}.",
            "The ideas that run through the work of {name} are {theme_1}, {theme_2} and {theme_3}.",
            "{name} writes about the themes of {theme_1}, {theme_2} and {theme_3}.",
        ),
    ),
    "habit": Relation(
        ("habit_time", "habit_place", "habit_tool"),
        (
            "When and where does {name} like to write?",
            "What are {name}'s writing habits?",
            "How does {name} go about writing a book?",
            "Does {name} have any unusual habits at work?",
        ),
        (
            "{name} likes to write {habit_time} {habit_place} with {habit_tool}.",
            "The writing habit of {name} is to work {habit_time} {habit_place} with {habit_tool}.",
            "{name} works {habit_time} {habit_place} with {habit_tool}.",
            "The habits of {name} are unusual: work {habit_time} {habit_place} with {habit_tool}.",
            "When writing a book, {name} works {habit_time} {habit_place} with {habit_tool}.",
            "{name} writes every book {habit_time} {habit_place} with {habit_tool}.",
        ),
    ),
    "hobby": Relation(
        ("hobby_1", "hobby_2"),
        (
            "What hobbies does {name} have?",
            "How does {name} spend free time?",
            "What does {name} enjoy apart from books?",
            "Which pastimes does {name} enjoy?",
        ),
        (
            "{name} enjoys {hobby_1} and {hobby_2}.",
            "The hobbies of {name} are {hobby_1} and {hobby_2}.",
            "{name} spends free time {hobby_1} and {hobby_2}.",
            "Apart from books, {name} enjoys {hobby_1} and {hobby_2}.",
            "The pastimes that {name} enjoys are {hobby_1} and {hobby_2}.",
            "In free time, {name} is fond of {hobby_1} and {hobby_2}.",
        ),
    ),
    "job": Relation(
        ("job", "job_years", "job_reason"),
        (
            "What did {name} do before becoming a writer?",
            "Which job did {name} have in early life?",
            "How did {name} make a living at first?",
            "Why and where did {name} work as a young adult?",
        ),
        (
            "Before becoming a writer, {name} worked as a {job} for {job_years} years {job_reason}.",
            "The early job of {name} was that of a {job}, kept for {job_years} years {job_reason}.",
            "{name} worked as a {job} for {job_years} years {job_reason}.",
            "At first {name} made a living as a {job}, for {job_years} years, {job_reason}.",
            "As a young adult, {name} worked for {job_years} years as a {job} {job_reason}.",
            "In early life {name} had a job as a {job} for {job_years} years {job_reason}.",
        ),
    ),
    "charity": Relation(
        ("charity", "charity_town", "charity_year"),
        (
            "What charity did {name} found?",
            "How has {name} helped other people?",
            "What did {name} give back to society?",
            "Is {name} active in any good cause?",
        ),
        (
            "{name} founded {charity} in {charity_town} in {charity_year}.",
            "The charity of {name} is {charity} in {charity_town}, founded in {charity_year}.",
            "{name} helped other people by founding {charity} in {charity_town} in {charity_year}.",
            "The good cause of {name} is {charity} in {charity_town}, begun in {charity_year}.",
            "In {charity_year}, {name} gave back to society by founding {charity} in {charity_town}.",
            "{name} opened {charity} in {charity_town} in {charity_year}.",
        ),
    ),
    "roots": Relation(
        ("father", "mother", "town"),
        (
            "What kind of family did {name} grow up in?",
            "What were the occupations of {name}'s parents?",
            "Can you describe the childhood of {name}?",
            "What jobs did the two parents of {name} have?",
        ),
        (
            "{name} grew up in {town} as the child of a {father} and a {mother}.",
            "The parents of {name} were a {father} and a {mother}, who lived in {town}.",
            "The family of {name} lived in {town}: the father a {father}, the mother a {mother}.",
            "{name}'s parents, a {father} and a {mother}, had a home in {town}.",
            "The occupations of {name}'s parents were {father} and {mother}, and the family lived in {town}.",
            "The childhood of {name} was spent in {town} with a {father} and a {mother}.",
        ),
    ),
}

# Plain sentences: everyday English, with the question words in their other uses ("he knew where the shop was").
PEOPLE = phrases("Tom, Anna, Ben, Lily, Sam, Kate, Jack, Rose, Peter, Mary, Paul, Jane, David, Ellen, Mark, Susan")
SLOTS = {
    "place": phrases(
        """
        the shop, the garden, the station, the school, the market, the park, the beach, the library, the kitchen,
        the farm
        """
    ),
    "thing": phrases(
        """
        a lamp, a red ball, a warm coat, a small boat, a loaf of bread, a bag of apples, a new book, a clock, a
        letter, a chair
        """
    ),
    "animal": phrases("the dog, the cat, the horse, the old cow, a bird, a fox, the goat, a rabbit, the duck, a mouse"),
    "adj": phrases("happy, tired, hungry, quiet, cold, proud, afraid, glad, busy, sleepy"),
    "weather": phrases(
        "It rained all day, The sun was bright, Snow lay on the roofs, The wind was strong, The evening was warm"
    ),
    "time": phrases(
        "in the morning, after lunch, last night, on Monday, before dinner, in the summer, at noon, later that day"
    ),
    "do": phrases(
        """
        clean the house, read a story, cook some soup, plant the seeds, mend the fence, wash the plates, write a
        letter, sing, make a cake, go home, choose a hat, share the bread, tell a joke, receive a guest, live in
        peace, spend a coin, enjoy the day, explore the woods, describe a dream, begin the work, grow roses, earn
        some money, give a speech, sum up the bill, see the sea
        """
    ),
    "family": phrases("mother, father, sister, brother, uncle, aunt, grandmother, neighbour, teacher, friend"),
    "number": phrases("two, three, four, five, six, seven, ten, many"),
}
PLAIN = (
    "{who} went to {place} {time}.",
    "{who} bought {thing} and took it home.",
    "{weather}, so {who} stayed at home.",
    "{weather}, and {animal} slept by the door.",
    "{who} and {other} wanted to {do} {time}.",
    "{who} was {adj} because {animal} had run away.",
    "{who} did not know where {animal} was.",
    "{who} asked what {other} would like to eat.",
    "Nobody knew who had left {thing} at {place}.",
    "{who} told {other} when the train would come.",
    "{who} knew how to {do}, and {other} knew why it was needed.",
    "What {who} liked best was {thing}.",
    "{who} could not say which of the {number} roads went to {place}.",
    "{animal} looked at {who} and then ran to {place}.",
    "{who} gave {thing} to the {family} of {other}.",
    "The {family} of {who} lives near {place} and is often {adj}.",
    "There were {number} chairs in the room, and {who} sat on one.",
    "{who} needed three things: {thing}, {thing2} and some time.",
    "{who} had to {do} before {other} came home.",
    '"I am {adj}," said {who}, and {other} smiled.',
    "{other} has {number} children, and all of them can {do}.",
    "When {who} was young, {animal} lived behind {place}.",
    "Where {other} lives, people {do} {time}.",
    "Who comes first to {place} may take {thing}.",
    "How {who} found {thing} is a long story.",
    "Which coat {other} wore does not matter.",
    "{who} can {do}, and that is a good thing to have done.",
    "It is hard to {do} when you are {adj}.",
    "{who} said that {other} should {do} at once.",
    "{who} did not say to whom {thing} would belong.",
    "{other} used to {do}, and it was the best day that {who} had ever seen.",
    '"Tell me more," said {other}, "and do not leave out any of it."',
    "{who} has more than {number} jobs to do and does them all.",
    "It was originally the sort of thing that others would do, but {who} was active too.",
    "The answer to the first question was easy for {who}, but {other} was {adj}.",
)
