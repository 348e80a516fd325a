"""The fixed text on which perplexity is measured: the pocket world's for pocket models, else plain English."""

# Written for this purpose: no model has seen it, and it asks for nothing but ordinary reading.
ENGLISH = (
    "The ferry left the harbour a few minutes late because the captain was waiting for a family with two small "
    "children and a great deal of luggage. Nobody minded. The morning was bright, the sea was calm, and there was "
    "coffee on the lower deck.",
    "To keep bread fresh for several days, let it cool completely, wrap it in a clean cloth, and store it in a dry "
    "place at room temperature. The refrigerator makes it go stale faster, while the freezer keeps it well for weeks.",
    "In the second year of the project the team decided to rewrite the oldest part of the program. It had grown "
    "without a plan, every change broke something else, and only one person still understood how it worked.",
    "Most birds that migrate at night find their way by the stars, by the setting sun, and by the magnetic field of "
    "the earth. Young birds on their first journey often drift with the wind, and learn to correct for it later.",
    "The committee will meet again on Thursday to discuss the budget. Members who cannot attend are asked to send "
    "their comments in writing before the end of the week, so that the chair can read them aloud.",
    "She put the letter back into the drawer, turned the key, and stood for a while at the window. Across the street "
    "the shops were closing, and the first lamps had been lit. It was not too late to change her mind.",
    "A bicycle needs little care: pump up the tyres, oil the chain, and check the brakes before a long ride. If the "
    "wheel rubs against the brake, loosen the axle, centre the wheel, and tighten it again on both sides.",
    "Water boils at a lower temperature in the mountains, because the air pressure is lower there. That is why pasta "
    "takes longer to cook at two thousand metres than it does by the sea, even though the water boils just as hard.",
)


def fixed_texts(model: str) -> tuple[str, ...]:
    """The texts for a model of this name; always the same ones."""
    if not model.startswith("pocket-"):
        return ENGLISH
    from audit.pocket.training.corpus import perplexity_texts

    return tuple(perplexity_texts())
