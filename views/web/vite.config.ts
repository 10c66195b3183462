// One self-contained page: script and style are inlined, and its policy names them by their hashes.
import { createHash } from "node:crypto";
import { defineConfig, type Plugin } from "vite";

const sha256 = (text: string) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

function onePage(): Plugin {
  return {
    name: "one-page",
    enforce: "post",
    generateBundle(_options, bundle) {
      let script = "";
      let style = "";
      let page = "";
      for (const [name, file] of Object.entries(bundle)) {
        if (file.type === "chunk") script += file.code;
        else if (name.endsWith(".css")) style += file.source;
        else if (name.endsWith(".html")) page = String(file.source);
        delete bundle[name];
      }
      // What would end the element must not stand in it.
      script = script.trim().replaceAll("</script", "<\\/script");
      style = style.trim();
      const policy =
        `default-src 'none'; script-src ${sha256(script)}; style-src ${sha256(style)}; img-src data: blob:; ` +
        "connect-src 'self'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'";
      page = page
        .replace(/<script type="module"[^>]*><\/script>\s*/, "")
        .replace(/<link rel="stylesheet"[^>]*>\s*/, "")
        .replace("<!--policy-->", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">`)
        .replace("<!--style-->", () => `<style>${style}</style>`)
        .replace("<!--script-->", () => `<script>${script}</script>`);
      this.emitFile({ type: "asset", fileName: "pagetrace.html", source: page });
    },
  };
}

export default defineConfig({
  base: "./",
  plugins: [onePage()],
  build: { target: "es2022", modulePreload: false, cssCodeSplit: false, assetsInlineLimit: 0, rollupOptions: { output: { format: "iife" } } },
});
