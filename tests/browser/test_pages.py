"""The pages in a real browser: what people see and do, in wide and narrow windows, with keys alone, without scripts.

Each test fails for an error on the console, a violation of the policy or a request to elsewhere (``Visits``).
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from gateway.web.session import COOKIE
from tests.browser.accessibility import PAGES, findings, page_path
from tests.browser.visits import Visits
from tests.browser.world import SLOTS, World
from tests.support.gateway_process import token
from tests.support.modes import LONG

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUEUE = "/queue/email-queue"
PHONE = {"viewport": {"width": 360, "height": 740}}


async def test_signing_in_with_a_token_leaves_it_in_no_address_and_out_of_scripts_reach(visits: Visits) -> None:
    page = await visits.open(f"{QUEUE}?status=failed", role=None)
    await expect(page).to_have_url(re.compile(r"/login\?next="))
    await expect(page.get_by_label("Token, API key or one-time code")).to_be_focused()
    await page.keyboard.type("not-a-token")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_have_text("That token or code does not let you in.")
    await page.get_by_label("Token, API key or one-time code").fill(token("viewer"))
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{visits.world.url}{QUEUE}?status=failed")
    [cookie] = [one for one in await page.context.cookies() if one["name"] == COOKIE]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "gateway_session" not in await page.evaluate("document.cookie")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in to Gateway")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Sign in to Gateway")).to_be_visible()


async def test_a_link_signs_in_once_and_its_code_stays_in_no_address(visits: Visits, shown: World) -> None:
    code = await shown.code("operator")
    page = await visits.open(f"/login#{code}", role=None)
    await expect(page.get_by_role("button", name="Sign in")).to_be_focused()
    assert code not in page.url
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    late = await visits.open(f"/login#{code}", role=None)
    await late.get_by_role("button", name="Sign in").click()
    await expect(late.get_by_role("alert")).to_have_text("That token or code does not let you in.")


@pytest.mark.parametrize("sent", [True, pytest.param(False, marks=LONG)], ids=["sent", "noticed before"])
async def test_what_was_typed_outlives_a_session_that_ends_meanwhile(visits: Visits, shown: World, sent: bool) -> None:
    page = await visits.open("/queue/chat?status=failed")
    await page.get_by_text("Pause…").click()
    await page.get_by_label("Reason").fill("typed before")
    await page.context.clear_cookies()
    if sent:
        await page.get_by_role("button", name="Pause", exact=True).click()
        told = page.get_by_role("status").filter(has_text="nothing was done")
        await expect(told).to_contain_text("what you typed is kept in this tab")
    else:
        await page.evaluate("look()")
    await page.get_by_label("Token, API key or one-time code").fill(await shown.code("admin"))
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{shown.url}/queue/chat?status=failed")
    await expect(page.get_by_label("Reason")).to_have_value("typed before")
    await expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    await expect(page.get_by_text("chat is paused")).to_have_count(0)
    await page.reload()
    await expect(page.get_by_label("Reason")).to_be_hidden()


async def test_numbers_change_in_place_and_nothing_moves_under_the_reader(visits: Visits, shown: World) -> None:
    page = await visits.open(viewport={"width": 1280, "height": 420})
    row = page.get_by_role("row", name=re.compile("^email-queue"))
    link = page.get_by_role("link", name="Retry 4…")
    await link.focus()
    place = await link.bounding_box()
    waiting = row.get_by_role("cell").nth(1)
    before = (await shown.counts())["waiting"]
    await expect(waiting).to_have_text(str(before))
    await shown.admin("POST", f"/jobs/{shown.jobs['active'].pop()}/cancel", {})
    await expect(waiting).to_have_text(str(before - 1))
    await shown.send("waiting", "next@slow.example")
    await expect(link).to_be_focused()
    assert await link.bounding_box() == place


async def test_tabs_and_the_search_keep_their_filter_in_the_address(visits: Visits) -> None:
    page = await visits.open(QUEUE)
    tabs = page.get_by_role("navigation", name="Jobs by state")
    assert await tabs.get_by_role("link").count() == 7
    await tabs.get_by_role("link", name=re.compile("^Failed")).click()
    await expect(page).to_have_url(re.compile(r"status=failed$"))
    await page.get_by_label("Search these jobs").fill('error:"Mailbox is full"')
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"status=failed&q=error%3A%22Mailbox"))
    await expect(page.get_by_role("table").get_by_role("row")).to_have_count(5)
    await page.reload()
    await expect(page.get_by_label("Search these jobs")).to_have_value('error:"Mailbox is full"')
    await page.get_by_label("Search these jobs").fill("to:nobody")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_label("Search these jobs").fill('error:"no such words"')
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No failed job matches.")).to_be_visible()
    await page.get_by_role("link", name="Clear the filter").click()
    await expect(page.get_by_role("table").get_by_role("row").nth(8)).to_be_visible()


async def test_a_row_leads_to_its_job_with_every_attempt_and_times_of_the_readers_zone(
    visits: Visits, shown: World
) -> None:
    page = await visits.open(f"{QUEUE}?status=failed&q=Greylisted", timezone_id="Asia/Tokyo", locale="en-GB")
    await page.get_by_role("cell", name="3/3").click()
    await expect(page).to_have_url(re.compile(shown.jobs["retried"][0]))
    attempts = page.get_by_role("table", name=re.compile("^Attempts"))
    await expect(attempts.get_by_role("row")).to_have_count(4)
    await expect(attempts).to_contain_text("451 4.7.1 Greylisted")
    await page.wait_for_load_state()  # the script has written the times
    times = await page.evaluate(
        "[...document.querySelectorAll('#steps time')].map(t => [t.dateTime, t.textContent, t.title])"
    )
    for exact, words, title in times:
        hours = (int(exact[11:13]) + 9) % 24
        assert words.startswith(f"{hours:02d}:") or f", {hours:02d}:" in words, (exact, words)
        assert exact in title and "GMT+9" in title
    await expect(page.get_by_role("button", name="Copy").first).to_be_visible()


async def test_hostile_words_of_a_server_do_nothing(visits: Visits, shown: World) -> None:
    for path in ("", f"{QUEUE}?status=failed", f"{QUEUE}/{shown.jobs['hostile'][0]}"):
        page = await visits.open(path)
        await expect(page.get_by_text("<script>document.title").first).to_be_visible()
        assert "pwned" not in await page.title()
        assert await page.locator("main img, main script").count() == 0


@LONG
async def test_one_job_is_retried_cancelled_and_deleted_after_a_question(visits: Visits, shown: World) -> None:
    page = await visits.open(f"{QUEUE}/{shown.jobs['failed'][-1]}")
    await page.get_by_role("button", name="Retry", exact=True).click()
    await expect(page.get_by_role("status").filter(has_text="The job waits again.")).to_be_focused()
    waiting = await shown.send("cancelled", "carl@slow.example")
    await page.goto(f"{shown.url}{QUEUE}/{waiting}")
    await expect(page.get_by_text(f"all {SLOTS} slots are busy")).to_be_visible()
    await page.get_by_text("Cancel…").click()
    await page.get_by_label("Reason").fill("by mistake")
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await expect(page.get_by_text("Reason: by mistake")).to_be_visible()
    await page.get_by_text("Delete…").click()
    await expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Delete", exact=True)).to_be_hidden()
    await page.get_by_text("Delete…").click()
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.get_by_text("The job was deleted.")).to_be_visible()


@LONG
async def test_all_that_match_are_counted_confirmed_and_followed(visits: Visits, shown: World) -> None:
    for _ in range(2):
        await shown.send("many", "many@slow.example", group="many")
    page = await visits.open(f"{QUEUE}?status=waiting&q=group%3Amany")
    await page.get_by_role("form", name="All that match").get_by_role("button", name="Cancel…").click()
    await expect(page.get_by_text("2 jobs match")).to_be_visible()
    await page.get_by_role("button", name="Cancel 2").click()
    await expect(page.get_by_role("heading", name="Cancel 2 jobs of email-queue")).to_be_visible()
    await expect(page.get_by_text("2 of 2 done")).to_be_visible()


@LONG
async def test_pausing_from_the_overview_opens_the_question_and_resuming_ends_it(visits: Visits) -> None:
    page = await visits.open()
    await page.get_by_role("link", name="Pause… chat").click()
    await page.get_by_label("Reason").fill("for the test")
    await page.get_by_role("button", name="Pause", exact=True).click()
    await expect(page.get_by_text("chat is paused.")).to_be_visible()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.get_by_text("chat is paused.")).to_have_count(0)


async def test_a_viewer_sees_everything_and_can_change_nothing(visits: Visits, shown: World) -> None:
    job = f"{QUEUE}/{shown.jobs['failed'][0]}"
    page = await visits.open(job, role="viewer")
    await expect(page.get_by_text("You can look but not change.")).to_be_visible()
    forms = page.locator("form[method=post]")
    for path in ("", job, QUEUE, "/schedules", "/replicas"):
        await page.goto(shown.url + path)
        assert await forms.count() == 1, "the one to sign out"
    for path in (f"{job}/retry", f"{job}/delete", f"{QUEUE}/pause", f"{QUEUE}/bulk?action=retry&status=failed"):
        assert await posted(page, shown.url + path) == 403
    await page.goto(f"{shown.url}/audit")
    await expect(page.get_by_role("heading", name="You may not do this")).to_be_visible()


async def posted(page: Page, url: str) -> int:
    status: int = await page.evaluate("async (url) => (await fetch(url, {method: 'POST'})).status", url)
    return status


@LONG
async def test_a_form_of_another_site_changes_nothing(visits: Visits, shown: World) -> None:
    evil = "http://evil.example"
    visits.foreign.add(evil)
    target = f"{shown.url}{QUEUE}/pause"
    page = await visits.open()
    form = f"<form method=post action='{target}'><button>Win</button></form>"
    await page.route(f"{evil}/**", lambda route: route.fulfill(body=form, content_type="text/html"))
    await page.goto(f"{evil}/")
    async with page.expect_response(lambda answer: answer.url == target) as answered:
        await page.get_by_role("button", name="Win").click()
    assert (await answered.value).status == 403
    await page.goto(f"{shown.url}{QUEUE}")
    await expect(page.get_by_text("email-queue is paused")).to_have_count(0)


@pytest.mark.parametrize("options", [PHONE, {"java_script_enabled": False}], ids=["360 px wide", "without scripts"])
async def test_every_page_shows_its_data(visits: Visits, shown: World, options: dict[str, Any]) -> None:
    context = await visits.session(**options)
    page = await visits.another(context)
    for name, words in PAGES.items():
        await page.goto(shown.url + page_path(name, shown))
        await expect(page.get_by_role("main")).to_contain_text(words)
        wide = (
            await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]") if options is PHONE else []
        )
        assert not wide or wide[0] <= wide[1], (name, wide)


@LONG
async def test_without_scripts_all_can_be_done(visits: Visits, shown: World) -> None:
    page = await visits.open(f"{QUEUE}/{await shown.send('plain', 'plain@slow.example')}", java_script_enabled=False)
    await page.get_by_text("Cancel…").click()
    await page.get_by_role("button", name="Cancel", exact=True).click()
    await expect(page.get_by_text("Cancelled. A job that runs ends")).to_be_visible()


async def test_keys_alone_lead_everywhere_and_focus_is_seen(visits: Visits, shown: World) -> None:
    page = await visits.open()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    focused = await page.evaluate(
        "[document.activeElement.closest('main') !== null, getComputedStyle(document.activeElement).outlineWidth]"
    )
    assert focused == [True, "2px"]
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    await page.keyboard.type("Greylisted")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{shown.url}/jobs?q=Greylisted")
    await page.wait_for_load_state()  # a page without its script hears no key
    await page.get_by_role("heading", name="Jobs of all queues").click()
    for keys, path in (("gs", "/schedules"), ("gw", "/replicas"), ("go", "")):
        await page.keyboard.press(keys[0])
        await page.keyboard.press(keys[1])
        await expect(page).to_have_url(shown.url + path)
        await page.wait_for_load_state()
    await expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_visible()


@LONG
async def test_the_theme_follows_the_system_until_it_is_chosen(visits: Visits) -> None:
    page = await visits.open(color_scheme="dark")

    async def back() -> int:
        rgb: str = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(re.findall(r"\d+", rgb)[0])

    assert await back() < 60
    await page.get_by_role("button", name="Theme").click()
    await page.get_by_role("button", name="Theme").click()
    assert await back() > 200
    await page.reload()
    assert await back() > 200, "it is remembered"


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=LONG)])
async def test_the_overview_and_a_job_have_no_accessibility_findings(visits: Visits, shown: World, theme: str) -> None:
    context = await visits.session(color_scheme=theme)
    page = await visits.another(context)
    for name in ("overview", "job"):
        await page.goto(shown.url + page_path(name, shown))
        assert not await findings(page), name


async def test_the_first_page_is_light(visits: Visits) -> None:
    sizes: list[int] = []
    context = await visits.session()
    page = await context.new_page()
    page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
    await page.goto(visits.world.url)
    weights = await page.evaluate("performance.getEntriesByType('resource').map(e => e.transferSize)")
    assert sum(sizes) < 60_000, (sizes, weights)
