"""The number that answers a question of arithmetic, out of what models write in many scripts."""

import pytest

from emma_jax.evaluation.tasks import numbers


@pytest.mark.parametrize(
    ("said", "number"),
    [
        (" 18", "18"),
        (" 18\n\nQuestion: How many are 5 and 6?\nAnswer: 11", "18"),
        (" $18.00 per day", "18"),
        (" 16 - 3 - 4 = 9, 9 * 2 = 18 dollars", "18"),
        (" 70.000 Dollar", "70000"),
        (" 70\u202f000 dollars", "70000"),
        (" ১৮", "18"),
        (" ๑๘ ดอลลาร์", "18"),
        (" ౧౮", "18"),
        (" １８ドル。", "18"),
        (" ١٨٬٠٠٠", "18000"),
        (" Tom has\n18 apples", "18"),
        (" -3", "-3"),
        (" 16-3", "3"),
        (" 18.5", "[invalid]"),
        (" eighteen", "[invalid]"),
        ("", "[invalid]"),
    ],
)
def test_an_answer_at_once(said, number):
    assert numbers.answer(said, "Question:", first_line=True) == number


@pytest.mark.parametrize(
    ("said", "question", "phrase", "number"),
    [
        ("16 - 7 = 9. 9 * 2 = 18. The answer is 18.", "Question:", "The answer is ", "18"),
        ("9 * 2 = 18. The answer is 18. She sold 9 eggs.", "Question:", "The answer is ", "18"),
        ("9 * 2 = 18\n\nQuestion: 5 + 6?\nThe answer is 11", "Question:", "The answer is ", "18"),
        ("9×2=18。答えは18です。\n\n問題: 5と6は？答えは11です。", "問題：", "答えは", "18"),
        ("９個×２＝１８。答えは１８ドルです。", "問題：", "答えは", "18"),
        ("答案是 18。\n\n问题: 5加6？答案是 11。", "问题：", "答案是 ", "18"),
        ("คำตอบคือ ๑๘", "โจทย์:", "คำตอบคือ ", "18"),
        ("Ответ — 18. Проверим: 9 + 9", "Задача:", "Ответ — ", "18"),
        ("La réponse est 1 250 euros", "Question :", "La réponse est ", "1250"),
        ("First 3. The answer is not known, but there are some more: 7", "Question:", "The answer is", "7"),
    ],
)
def test_an_answer_after_steps(said, question, phrase, number):
    assert numbers.answer(said, question, [phrase]) == number
