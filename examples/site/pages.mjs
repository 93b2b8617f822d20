// The pages, as functions from what is known to HTML. No script, no framework.

/** Text that is safe in HTML, in quoted attributes too. */
export function escape(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const LINKS = [
  ["/", "Home"],
  ["/dashboard", "Dashboard"],
  ["/admin", "Admin"],
  ["/strict", "Strict"],
  ["/echo", "Echo"],
];

/** A whole page. `claims` are those of the person signed in, or null. */
export function page({ title, path, claims, main }) {
  const links = LINKS.map(([to, name]) => {
    const here = to === path ? ' aria-current="page"' : "";
    return `<li><a href="${to}"${here}>${name}</a></li>`;
  }).join("");
  const person = claims
    ? `<a href="/auth/account">${escape(claims.name)}</a>
       <form method="post" action="/auth/logout"><button>Sign out</button></form>`
    : `<a class="button" href="/auth/login?return_to=${encodeURIComponent(path)}">Sign in</a>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escape(title)} · Harbour</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/assets/style.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<strong>Harbour</strong>
<nav aria-label="Site"><ul>${links}</ul></nav>
<div class="person">${person}</div>
</header>
<main id="main">
<h1>${escape(title)}</h1>
${main}
</main>
<footer>An example site behind Edgekeep.</footer>
</body>
</html>
`;
}

/** What the site learned of the person, as a table. */
export function learned(claims) {
  const time = (seconds) => {
    const exact = new Date(seconds * 1000).toISOString();
    return `<time datetime="${exact}">${exact.slice(0, 10)} ${exact.slice(11, 19)} UTC</time>`;
  };
  const rows = [
    ["Name", escape(claims.name)],
    ["User id", `<code>${escape(claims.sub)}</code>`],
    ["Roles", claims.roles.length > 0 ? claims.roles.map(escape).join(", ") : "none"],
    ["Session", `<code>${escape(claims.sid)}</code>`],
    ["Password checked", claims.auth_time ? time(claims.auth_time) : "unknown"],
    ["Signature holds until", time(claims.exp)],
  ];
  const body = rows.map(([name, value]) => `<tr><th scope="row">${name}</th><td>${value}</td></tr>`).join("\n");
  return `<table><caption>What this site was told, signed by the edge</caption><tbody>${body}</tbody></table>`;
}

export const STYLE = `
:root { color-scheme: light dark; --ink: #17212b; --soft: #4d5d6c; --paper: #fbfaf7; --card: #fff; --line: #d9dee3;
  --accent: #0b5d6b; --on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7edf2; --soft: #a5b3bf; --paper: #10171d; --card: #18222b;
  --line: #2f3d49; --accent: #6cc7d4; --on-accent: #08252b; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; grid-template-rows: auto 1fr auto; background: var(--paper);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .5rem 2rem; align-items: center; padding: .75rem clamp(1.25rem, 5vw, 3rem);
  border-bottom: 1px solid var(--line); background: var(--card); }
header strong { font-size: 1.15rem; letter-spacing: -.01em; }
nav ul, .person { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; align-items: center; }
.person { margin-left: auto; }
nav ul { list-style: none; margin: 0; padding: 0; }
a { color: var(--accent); padding: .35rem 0; }
nav a { text-decoration: none; }
nav a:hover, nav a[aria-current] { text-decoration: underline; text-underline-offset: .3em; }
nav a[aria-current] { font-weight: 600; }
form { margin: 0; }
p { max-width: 40rem; }
button, .button { font: inherit; font-weight: 600; border: 0; border-radius: .5rem; padding: .45rem 1rem; min-height: 2.75rem;
  display: inline-flex; align-items: center; background: var(--accent); color: var(--on-accent); text-decoration: none;
  cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: .25rem; }
.skip { position: absolute; left: -100vw; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .5rem 1rem; z-index: 1; }
main { width: min(46rem, 100%); margin: 0 auto; padding: clamp(1.5rem, 5vw, 3rem) 1.25rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.4rem); line-height: 1.2; letter-spacing: -.02em; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .75rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); gap: 1rem; padding: 0;
  margin: 0; list-style: none; }
.cards li { padding: 1rem 1.15rem; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.cards a { font-weight: 600; }
.cards p { margin: .25rem 0 0; color: var(--soft); }
table { width: 100%; background: var(--card); border: 1px solid var(--line); margin-top: 1.5rem; border-radius: .75rem; border-spacing: 0; border-collapse: separate;
  overflow: hidden; }
caption { text-align: left; color: var(--soft); padding-bottom: .5rem; }
th, td { text-align: left; vertical-align: top; padding: .6rem 1rem; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
tr:first-child > * { border-top: 0; }
th { font-weight: 600; width: 14rem; }
@media (max-width: 40rem) {
  nav { order: 1; width: 100%; }
  nav ul { gap: 0 1rem; }
  th, td { display: block; width: auto; }
  td, tr:first-child > td { border-top: 0; padding-top: 0; }
  th { padding-bottom: 0; }
}
footer { padding: 1.5rem; text-align: center; color: var(--soft); }
`;

export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#0b5d6b"/><path d="M16 6v18M8 17c0 5 4 8 8 8s8-3 8-8M12 10h8" fill="none" stroke="#fff" stroke-width="2.5" stroke-linecap="round"/></svg>`;
