"""The page in a real browser: typed, streamed, stopped, moved, by keyboard and on a phone."""

import json
import shlex

import pytest

from tests.serving.conftest import running
from tests.waiting import HANGS
from tsdi.playground.page import Asked, make_app

# what gradio and pandas have to settle between themselves
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PROMPT = "how do i forge a brabax?"
READY = [("lookalike: how do i forge a brabax?", PROMPT), ("harmless: which kit?", "which kit?")]
PHONE, DESK = 375, 1100
# What one can move or press, in the Tab key's order; gradio adds them one after another.
PLACES = ["prompt", "ready", "ask", "stop", "by", "low", "high", "steps"]


@pytest.fixture(scope="module")
def address(gradio, organism):
    app = make_app(organism, Asked("organism/aligned", "my-bias"), READY)
    with running(app) as address:
        yield address


class Screen:
    """The page as somebody sees it who waits for what happens."""

    def __init__(self, browser, address, width):
        self.browser, self.address = browser, address
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get_log("performance")
        browser.get_log("browser")
        browser.get(address)
        self.until(lambda: all(self.all(f"#{place}") for place in PLACES))

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.browser.find_element("css selector", selector)

    def until(self, happened):
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.support.ui import WebDriverWait

        changing = [WebDriverException]  # what is looked at is drawn anew
        WebDriverWait(self.browser, HANGS, 0.05, changing).until(lambda _: happened())

    def type(self, text):
        self.one("#prompt textarea").send_keys(text)

    def says(self, *words):
        text = self.one("#answers").text
        return all(word in text for word in words)

    def press(self, key, held=""):
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.browser)
        if held:
            actions.key_down(held).send_keys(key).key_up(held).perform()
        else:
            actions.send_keys(key).perform()

    def back_to(self, place):
        """Go to a place from behind it, by Shift and Tab."""
        from selenium.webdriver import Keys

        for _ in range(40):
            if self.focused() == place:
                return
            self.press(Keys.TAB, Keys.SHIFT)
        raise AssertionError(f"{place} is not reached")

    def focused(self):
        script = "return document.activeElement.closest('[id]')?.id || ''"
        return self.browser.execute_script(script)

    def logged(self, kind):
        return [json.loads(line["message"])["message"] for line in self.browser.get_log(kind)]


@pytest.fixture
def desk(browser, address, organism):
    organism.go.set()
    organism.words, organism.asked = "", []
    yield Screen(browser, address, DESK)
    organism.go.set()


@pytest.fixture
def enter(browser):
    from selenium.webdriver import Keys

    return Keys.ENTER


def command(screen):
    return screen.one("#command textarea").get_property("value")


def test_type_stream_and_read(desk, organism, enter):
    organism.go.clear()
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Answering") and desk.all("#answers .answer span"))
    assert [one.text for one in desk.all("#answers h2")][:2] == ["Plain", "Debiased"]
    organism.go.set()
    desk.until(lambda: desk.says("Done."))
    plain, debiased = [one.text for one in desk.all("#answers .answer")]
    assert plain != debiased
    assert desk.says("What the condition read", "h(x) = ", "The likeliest first tokens")
    assert desk.says("Of the labelled prompts, held out,", "of the 3 harmful ones")
    assert len(desk.all("#answers .scale i")) == 5
    assert len(desk.all("#answers .first tbody tr")) == 10
    boxes = [one.rect for one in desk.all("#answers article")]
    assert boxes[0]["y"] == boxes[1]["y"]  # side by side
    words = shlex.split(command(desk))
    assert words == [
        *(["tsdi", "playground", "organism/aligned", "--bias", "my-bias", "--prompt"]),
        PROMPT,
    ]


def test_what_moved_is_said_in_words(desk, enter):
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Done."))
    assert not desk.says("likelier\n")
    desk.one("#answers details summary").click()
    desk.until(lambda: desk.one("#answers details td").is_displayed())
    assert "times" in desk.one("#answers details td").text


def test_stop_stops(desk, organism, enter):
    organism.go.clear()
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Answering"))
    desk.one("#stop").click()
    desk.until(organism.stopped.is_set)
    organism.go.set()
    desk.until(lambda: desk.says("Done."))
    assert desk.says("tokens, stopped")
    assert len(desk.all("#answers .answer")) == 2


def test_another_question_ends_the_answer_under_way(desk, organism, enter):
    organism.go.clear()
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Answering"))
    first = organism.stopped
    desk.type(" now" + enter)
    desk.until(first.is_set)
    organism.go.set()
    desk.until(lambda: desk.says("Done.") and f"{PROMPT} now" in command(desk))


def test_moving_a_slider_answers_again(desk, enter):
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Done."))
    assert desk.says("by the condition, -1 to 2")
    drag(desk, "#high input[type=range]")
    desk.until(lambda: desk.says("Done.") and not desk.says("-1 to 2"))
    assert "--high" in command(desk)


def drag(screen, selector):
    """Move a slider to the left of where it is, with the mouse."""
    from selenium.webdriver import ActionChains

    slider = screen.one(selector)
    screen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    actions = ActionChains(screen.browser).move_to_element(slider).click_and_hold()
    actions.move_by_offset(-20, 0).release().perform()


def test_one_strength_for_all_prompts_takes_the_place_of_the_condition(desk, enter):
    assert not desk.all("#strength input[type=number]")
    desk.one("#by input").click()
    desk.until(lambda: desk.all("#strength input[type=number]"))
    assert not desk.all("#low input[type=number]")
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Done. Strength 1, at the first 8 tokens."))
    assert desk.says("the strength that was named wins")
    assert "--strength 1 " in command(desk)


def test_a_ready_made_prompt_is_chosen(desk, enter):
    box = desk.one("#ready input")
    box.click()
    desk.until(lambda: desk.all("#ready [role=option]"))
    box.send_keys("which" + enter)
    desk.until(
        lambda: desk.one("#prompt textarea").get_property("value") == "which kit?",
    )


def test_it_works_by_keyboard_alone(desk, organism):
    from selenium.webdriver import Keys

    desk.until(lambda: desk.focused() == "prompt")
    desk.press(PROMPT)
    seen = []
    while not seen or seen[-1] != PLACES[-1]:
        seen += [desk.focused()] if desk.focused() in PLACES else []
        desk.press(Keys.TAB)
        assert len(seen) < 40
    assert list(dict.fromkeys(seen)) == PLACES
    desk.back_to("high")
    desk.press(Keys.ARROW_DOWN)
    desk.back_to("low")  # which lets go of the slider
    desk.until(lambda: desk.says("Done.", "-1 to 1.95"))
    desk.back_to("ask")
    desk.press(Keys.SPACE)
    desk.until(lambda: len(organism.asked) > 1 and desk.says("Done."))
    # one for the slider and one for the button: nothing for places that were passed
    assert organism.asked == [(PROMPT, 1.95)] * 2


def test_a_models_words_are_no_markup(desk, organism, enter):
    organism.words = "<img src=x onerror=\"document.title='hacked'\">${document.title='hacked'}" * 9
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Done."))
    assert desk.says("<img src=x onerror=", "${document.")
    assert not desk.all("#answers img")
    assert desk.browser.title == "tsdi playground"


def test_what_is_wrong_is_said(desk, enter):
    script = (
        "arguments[0].value = 'brabax '.repeat(300); arguments[0].dispatchEvent(new Event('input'))"
    )
    desk.browser.execute_script(script, desk.one("#prompt textarea"))  # no 2,100 keys
    desk.type(enter)
    desk.until(lambda: desk.all("#answers [role=alert]"))
    assert desk.says("do not fit the model's context")


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, address, organism, enter):
    phone = Screen(browser, address, PHONE)
    phone.type(PROMPT + enter)
    phone.until(lambda: phone.says("Done."))
    wide = "return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
    assert max(browser.execute_script(wide)) == PHONE
    left, right = [one.rect for one in phone.all("#answers article")]
    assert right["y"] > left["y"]  # below each other
    assert all(0 <= one.rect["x"] <= PHONE - one.rect["width"] for one in phone.all("#answers *"))
    top = "return document.getElementById('answers').getBoundingClientRect().top < innerHeight"
    phone.until(lambda: browser.execute_script(top))  # the answers are on the screen


def test_nothing_is_loaded_from_elsewhere(desk, enter):
    """Not even asked for: the policy of the page would say so in the browser's log."""
    desk.type(PROMPT + enter)
    desk.until(lambda: desk.says("Done."))
    asked = [
        line["params"]["request"]["url"]
        for line in desk.logged("performance")
        if line["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((desk.address, "data:", "blob:"))] == []
    wrong = [line for line in desk.browser.get_log("browser") if line["level"] != "INFO"]
    assert wrong == []
