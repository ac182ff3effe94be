// Dark where the reader's system is.  In place of the theme's own script, which stops where there
// is no highlighter, and highlighters come from another host.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const follow = () =>
  document.documentElement.setAttribute("data-bs-theme", dark.matches ? "dark" : "light");
follow();
dark.addEventListener("change", follow);
