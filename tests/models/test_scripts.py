"""Words and spaces by script."""

import pytest

from audit.models.scripts import gap, split_by_script, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Paris is big.", ["Paris", "is", "big"]),
        ("纽约是城市。", ["纽", "约", "是", "城", "市"]),
        ("東京タワー", ["東", "京", "タ", "ワー"]),
        ("人々", ["人", "々"]),
        ("iPhone是3月", ["iPhone", "是", "3", "月"]),
        ("서울은 수도", ["서울은", "수도"]),
        ("Zoë Łódź", ["Zoë", "Łódź"]),
        ("ไทย", ["ไ", "ท", "ย"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(("word", "parts"), [("กิน", ["กิ", "น"]), ("ខ្មែរ", ["ខ្", "មែ", "រ"]), ("", [])])
def test_combining_marks_stay_with_their_letter(word: str, parts: list[str]) -> None:
    assert split_by_script(word) == parts


@pytest.mark.parametrize(
    ("before", "after", "space"),
    [
        ("The capital of France is", "Paris", " "),
        ("Answer:", "Paris", " "),
        ("The capital of Japan is", "東京", " "),
        ("日本の首都は", "東京", ""),
        ("法国的首都是", "巴黎", ""),
        ("他出生于", "Paris", ""),
        ("法国的首都是\uff1a", "Paris", ""),
        ("法国的首都是哪里\uff1f", "巴黎", ""),
        ("法国的首都是:", "巴黎", ""),
        ("เมืองหลวงของไทยคือ", "กรุงเทพ", ""),
        ("ເມືອງຫຼວງ", "ວຽງຈັນ", ""),
        ("រាជធានី", "ភ្នំពេញ", ""),
        ("한국의 수도는", "서울", " "),
        ("Столица России -", "Москва", " "),
        ("1999年", "1月", ""),
        ("I like it \U0001f642", "yes", " "),
        ("I like it \U0001f44d\U0001f3fd", "yes", " "),
        ("I like it \u2b50", "yes", " "),
        ("I like it \u25fd", "yes", " "),
        ("我喜欢它\U0001f642", "是", ""),
        ("我喜欢它\U0001f642", "yes", " "),
        ("答え\u3000", "yes", ""),
        ("地址\u3012", "yes", ""),
        ("价格\uffe5", "yes", ""),
    ],
)
def test_the_space_between_prompt_and_target(before: str, after: str, space: str) -> None:
    assert gap(before, after) == space
