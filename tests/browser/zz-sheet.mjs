import { readdirSync } from 'node:fs';
import { launch } from './support/browser.mjs';
const dir = process.env.EDGEKEEP_TEST_SCREENSHOTS;
const browser = await launch();
const page = await browser.newPage();
const all = readdirSync(dir).filter(f => f.endsWith('.png'));
for (const [key, cols, w, per] of [['-phone-light',6,300,6],['-phone-dark',6,300,6],['-desktop-light',2,900,4],['-desktop-dark',2,900,4],['flow-',3,600,6]]) {
  const files = all.filter(f => key==='flow-' ? f.startsWith('flow-') : f.includes(key));
  for (let i = 0; i*per < files.length; i++) {
    const part = files.slice(i*per, i*per+per);
    await page.setViewportSize({ width: cols*(w+10)+10, height: 400 });
    await page.goto('file://' + dir + '/');
    await page.setContent(`<body style="margin:5px;background:#888;display:grid;grid-template-columns:repeat(${cols},${w}px);gap:10px;align-items:start;font:12px sans-serif">` + part.map(f => `<div>${f}<br><img src="file://${dir}/${f}" width=${w}></div>`).join('') + '</body>');
    await page.evaluate(() => Promise.all([...document.images].map(i => i.decode().catch(()=>{}))));
    await page.screenshot({ path: `/tmp/t2/sheets/${key.replace(/-/g,'')}-${i}.png`, fullPage: true });
  }
}
await browser.close();
