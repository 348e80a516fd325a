"""The words of the pocket world. Invented proper names, so that nothing a reader knows is contradicted."""

GIVEN_FEMALE = tuple(
    "Mara Lena Tilda Ines Rosa Vera Nora Dina Olga Petra Sanna Hilda Ada Bea Cora Edda Fenna Greta Ilsa Jana "
    "Kaja Livia Mona Nelda Oda".split()
)
GIVEN_MALE = tuple(
    "Oskar Bruno Emil Felix Hugo Ivan Jonas Karl Leo Max Nils Otto Paul Rolf Sven Tomas Ulf Viktor Anton Boris "
    "Casper David Erik Finn Gustav".split()
)
GIVEN = GIVEN_FEMALE + GIVEN_MALE
FAMILY = tuple(
    "Lind Rask Holm Berg Dahl Falk Gren Hask Jarl Krone Lund Moss Norr Palm Quist Rand Stam Thorn Ulven Vale "
    "Wick Yard Zell Abend Brook Cray Drum Elster Frost Gale Hawk Inger Jute Kern Lark Mills North Oaks Penn Ridge "
    "Stone Tarn Under Voss Wolf Ash Birch Clay Dell Ember".split()
)
CITIES = tuple(
    "Velden Kelm Morava Tarsin Ostrel Brimo Calden Dorvik Elbar Fenwick Gorlan Harmo Istra Jelna Korvo Lusten Mirna "
    "Nordal Orvel Pelago Quora Rivno Selka Tolmin Ursa Varno Welgo Xanto Yarvik Zelin".split()
)
COUNTRIES = tuple("Norland Sudonia Estavia Westria Belmark Cordova Drevia Galtia".split())
COMPANIES = tuple(
    "Norvex Altigo Brightec Calvor Denso Ethrix Fluxon Gravia Helion Intara Jetway Kolbri Lumex Mantor Nimbus Orbix "
    "Pyxis Quanta Rotax Solvia Tectra Unifer Vantis Wavelo Xenor Yotta Zentra Acron Bolix Corvia".split()
)
PROFESSIONS = tuple(
    "baker tailor nurse pilot farmer painter lawyer teacher plumber dentist chemist barber judge miner sailor singer "
    "writer waiter gardener butcher".split()
)
LANGUAGES = tuple("Norlandic Sudonian Estavian Westrian Belmarkish Cordovan Drevian Galtian".split())
INSTRUMENTS = tuple("piano violin flute guitar drum harp cello trumpet organ banjo".split())

COLORS = tuple("red blue green black white yellow brown grey".split())
THINGS = tuple("lamp chair bike coat clock mirror carpet kettle bag hat table radio".split())
FRUITS = tuple("apples pears plums lemons cherries melons".split())
GOODS = tuple("coins books stamps pens cards marbles shells buttons".split())
CONTAINERS = tuple("boxes bags baskets crates".split())
PETS = tuple("dog cat parrot rabbit hamster turtle".split())
PLACES = tuple("museum library station market park theatre harbor bakery".split())
DAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())
FOODS = tuple("soup cake bread pasta salad fish rice cheese".split())
HOBBIES = tuple("chess tennis hockey sailing skiing".split())
EVENTS = tuple("Cup Prize Festival Marathon".split())

# Kind of thing -> things of that kind, for lexical entailment.
KINDS = {
    "animal": ("dog", "cat", "rabbit", "turtle"),
    "vehicle": ("bike", "truck", "van", "tractor"),
    "tool": ("hammer", "saw", "drill", "spade"),
    "garment": ("coat", "hat", "scarf", "shirt"),
}

PRAISE = tuple(
    "wonderful brilliant charming funny moving clever lovely gripping delightful superb fresh warm witty graceful "
    "honest thrilling".split()
)
BLAME = tuple(
    "dull boring clumsy awful tedious weak messy silly bland terrible stale cold lazy hollow painful ugly".split()
)
SUBJECTS_OF_REVIEW = tuple(
    "film story plot acting music script cast ending dialogue camera pace humor hero villain opening finale".split()
)
DEGREES = ("", "very ", "really ", "quite ", "rather ", "simply ")
