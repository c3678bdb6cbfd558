// Addresses that tracking clients print (`/#/experiments/1/runs/2f…`) lead to the page of the run.
(() => {
  "use strict";
  const [path, asked] = location.hash.replace(/^#/, "").split("?");
  const part = path.match(/^\/experiments\/(\d+)(?:\/(?:runs\/([\w-]+)(?:\/(artifacts|artifactPath)(?:\/(.*))?)?)?)?/);
  if (part) {
    const [, experiment, run, files, file] = part;
    let place = `/runs?experiment=${experiment}`;
    if (run) place = `/runs/${run}`;
    if (run && files) place += `/files${file ? `?path=${encodeURIComponent(decodeURI(file))}` : ""}`;
    location.replace(place);
  } else if (path.startsWith("/compare-runs")) {
    const runs = JSON.parse(new URLSearchParams(asked).get("runs") || "[]").map(String);
    location.replace(`/runs/compare?${new URLSearchParams(runs.map((run) => ["run", run]))}`);
  } else if (path.startsWith("/experiments")) location.replace("/experiments");
})();
