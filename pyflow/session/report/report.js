"use strict";
document.documentElement.classList.add("js");
const BLINK_MS = 600;
for (const figure of document.querySelectorAll(".compare")) {
  const pair = figure.querySelector(".pair");
  const slider = figure.querySelector(".slider");
  const button = figure.querySelector(".blink");
  let timer = null;
  const show = (percent) => pair.style.setProperty("--at", `${percent}%`);
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.setAttribute("aria-pressed", "false");
    figure.classList.remove("blinking");
    show(slider.value);
  };
  slider.addEventListener("input", stop);
  button.addEventListener("click", () => {
    if (timer !== null) {
      stop();
      return;
    }
    let first = true;
    const turn = () => {
      show(first ? 100 : 0);
      first = !first;
    };
    button.setAttribute("aria-pressed", "true");
    figure.classList.add("blinking");
    turn();
    timer = setInterval(turn, BLINK_MS);
  });
}
const openTarget = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }
};
addEventListener("hashchange", openTarget);
openTarget();
// What is closed on the screen is printed as well, and closed again.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
